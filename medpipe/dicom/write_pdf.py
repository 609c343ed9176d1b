"""A PDF as an encapsulated DICOM object in the study of a CT series."""

import hashlib
from pathlib import Path

from medpipe.dicom.maker import Model, contributing_equipment, study_module
from medpipe.dicom.read_back import WrittenOtherwise
from medpipe.dicom.reading import read_dataset
from medpipe.dicom.series import Series
from medpipe.dicom.writing import RESEARCH_USE, UID_ROOT, add_maker, save, seeded_uid
from medpipe.geometry.atomic import written_beside

_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def write_pdf(
    path: Path | str,
    pdf: bytes,
    series: Series,
    *,
    title: str = "Automatic segmentation",
    model: Model | None = None,
    uid_root: str = UID_ROOT,
) -> None:
    """Encapsulate `pdf`, with the images of the series as its source; read back before it gets its name."""
    from pydicom import Dataset

    if not pdf.startswith(b"%PDF-"):
        raise ValueError("the document is no PDF")
    path = Path(path)
    identity = (series.series_uid, title, hashlib.sha256(pdf).hexdigest())
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = _ENCAPSULATED_PDF
    dataset.SOPInstanceUID = seeded_uid("pdf instance", *identity, root=uid_root)
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    add_maker(dataset)
    for keyword, value in study_module(series).items():
        setattr(dataset, keyword, value)
    dataset.StudyInstanceUID = series.study_uid
    dataset.SeriesInstanceUID = seeded_uid("pdf series", *identity, root=uid_root)
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = f"{title}, {RESEARCH_USE}"[:64]
    dataset.InstanceNumber = 1
    dataset.ContentDate = dataset.ContentTime = dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"  # the page names the patient
    dataset.DocumentTitle = f"{title}: {RESEARCH_USE}"
    dataset.ConceptNameCodeSequence = []
    dataset.SourceInstanceSequence = [_reference(series.sop_class_uid, uid) for uid in series.sop_uids]
    if model is not None:
        dataset.ContributingEquipmentSequence = [contributing_equipment(model, uid_root)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + b"\0" * (len(pdf) % 2)
    with written_beside(path) as partial:
        save(dataset, partial)
        again = read_dataset(partial, with_pixels=True)
        if bytes(again.EncapsulatedDocument)[: again.EncapsulatedDocumentLength] != pdf:
            raise WrittenOtherwise(f"{path}: the document differs after writing and reading")


def _reference(sop_class_uid: str, sop_uid: str) -> object:
    from pydicom import Dataset

    item, purpose = Dataset(), Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_uid
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121324", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item
