"""Which model answers, and how: values only, so that a workflow is checked without loading any model."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from medpipe.config.base import Config, StageRef, execution
from medpipe.datasets.questions import QuestionsConfig
from medpipe.metrics.question_forms import QuestionKind


class PromptConfig(Config):
    """How a question becomes a prompt: `{question}` and `{options}` (a line each) are filled in, nothing else is."""

    template: str = "{question}"
    by_kind: dict[QuestionKind, str] = Field(default_factory=dict)  # instead of `template`
    system: str = ""

    @model_validator(mode="after")
    def _question_is_asked(self) -> "PromptConfig":
        for template in (self.template, *self.by_kind.values()):
            if "{question}" not in template:
                raise ValueError(f"a template must hold {{question}}, got {template!r}")
        return self


class GenerationConfig(Config):
    """How text is drawn. Greedy by default: the same question gives the same answer."""

    max_new_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=0.0, ge=0, description="0: greedy")
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    stop: tuple[str, ...] = ()


class ServerModel(Config):
    """A model behind any OpenAI-compatible server (vLLM, SGLang, LMDeploy, llama.cpp): POST <url>/chat/completions."""

    name: Literal["server"]
    url: str = execution("http://127.0.0.1:8000/v1", pattern=r"^https?://[^\s]+$")
    model: str  # as the server calls it
    api_key_env: str = execution(
        "MEDPIPE_API_KEY", description="environment variable that holds the key, if there is one"
    )
    image_first: bool = True  # the images before the text in the message
    extra: dict[str, Any] = Field(default_factory=dict)  # further keys of the request, as the server knows them
    concurrency: int = execution(8, ge=1, description="requests in flight")
    timeout_seconds: float = execution(120.0, gt=0, description="for one answer")
    max_attempts: int = execution(6, ge=1, description="for one question, on 429, 5xx, timeouts and broken answers")
    first_wait_seconds: float = execution(
        1.0, gt=0, description="before the second attempt; doubled for each further one"
    )
    give_up_seconds: float = execution(600.0, gt=0, description="without any answer from the server: the stage ends")


class TransformersModel(Config):
    """A local folder that transformers' AutoModelForImageTextToText loads; nothing is ever downloaded."""

    name: Literal["transformers"]
    folder: Path
    image_first: bool = True
    batch_size: int = execution(8, ge=1)
    device: Literal["auto", "cpu", "cuda"] = execution("auto")
    precision: Literal["auto", "32", "bf16"] = "auto"  # auto: bf16 on a GPU, 32 bits on a CPU


class LoraTuning(Config):
    """Low-rank adapters (arXiv:2106.09685) learn, every weight of the folder stays as it is."""

    method: Literal["lora"]
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, gt=0, description="adapters are scaled by alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = Field(
        default=(), description="linear layers by the end of their names, as q_proj; default: all but the head"
    )
    image_encoder: bool = Field(default=False, description="adapters in the image encoder too, not the decoder alone")


class FullTuning(Config):
    """Every weight learns, in float32."""

    method: Literal["full"]
    image_encoder: bool = Field(default=True, description="the image encoder learns too")


Tuning = Annotated[LoraTuning | FullTuning, Field(discriminator="method")]


class TransformersBackbone(Config):
    """A local folder that transformers' AutoModelForImageTextToText loads, to be trained further."""

    name: Literal["transformers"]
    folder: Path
    tuning: Tuning
    image_first: bool = True
    most_pixels: int | None = Field(default=2_000_000, ge=1, description="larger images are made smaller")
    micro_batch_size: int | None = execution(
        None, ge=1, description="questions at once; gradients of a step's batch are summed over such parts"
    )
    gradient_checkpointing: bool = execution(False, description="less memory, a third more time")


class TrainedModel(Config):
    """What a stage vqa_training left: the small model, or a local folder with what it learned further."""

    name: Literal["trained"]
    training: StageRef
    base_folder: Path | None = execution(
        None, description="where the folder that was tuned by LoRA lies now; default: where it was trained"
    )
    batch_size: int | None = execution(None, ge=1, description="default: 256 of the small model, 8 of a folder")


class BaselineModel(Config):
    """Answers without looking at any image, from the references of a training part.

    majority         the most frequent reference of all
    question_prior   the most frequent reference of the same question, else of all: what the wording alone gives away
    option_prior     of the options that the question lists, the most frequent reference
    constant         `text`
    """

    name: Literal["majority", "question_prior", "option_prior", "constant"]
    fit_on: QuestionsConfig | None = None
    text: str = ""

    @model_validator(mode="after")
    def _has_what_it_says(self) -> "BaselineModel":
        if self.name == "constant" and not self.text:
            raise ValueError("a constant model needs `text`")
        if self.name in ("majority", "question_prior") and self.fit_on is None:
            raise ValueError(f"{self.name} needs `fit_on`, the questions whose references it counts")
        return self


AnsweringModel = Annotated[ServerModel | TransformersModel | TrainedModel | BaselineModel, Field(discriminator="name")]
