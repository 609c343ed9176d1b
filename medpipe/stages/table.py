"""The kinds of stage: name in a workflow -> class. To add one: a file in this folder and a line here."""

STAGES: dict[str, str] = {
    "intensity_statistics": "medpipe.stages.intensity_statistics:IntensityStatistics",
    "masked_pretraining": "medpipe.stages.masked_pretraining:MaskedPretraining",
    "segmentation_training": "medpipe.stages.segmentation_training:SegmentationTraining",
    "segmentation_prediction": "medpipe.stages.segmentation_prediction:SegmentationPrediction",
    "segmentation_evaluation": "medpipe.stages.segmentation_evaluation:SegmentationEvaluation",
    "frame_embedding": "medpipe.stages.frame_embedding:FrameEmbedding",
    "phase_training": "medpipe.stages.phase_training:PhaseTraining",
    "phase_prediction": "medpipe.stages.phase_prediction:PhasePrediction",
    "phase_evaluation": "medpipe.stages.phase_evaluation:PhaseEvaluation",
    "phase_report": "medpipe.stages.phase_report:PhaseReportStage",
    "comparison": "medpipe.stages.comparison:ComparisonStage",
    "vqa_training": "medpipe.stages.vqa_training:VqaTraining",
    "question_answering": "medpipe.stages.question_answering:QuestionAnswering",
    "answer_scoring": "medpipe.stages.answer_scoring:AnswerScoring",
    "answer_report": "medpipe.stages.answer_report:AnswerReportStage",
    "report": "medpipe.stages.report:ReportStage",
}
