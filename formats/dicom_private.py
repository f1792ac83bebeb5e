# SPDX-License-Identifier: Apache-2.0
"""DICOM objects without their people: the Basic Application Level Confidentiality Profile in spirit.

PS3.15 Annex E: names, identifiers, dates, places, free texts, curves, overlays and private elements go; identifiers
of objects are replaced by others, the same everywhere; numbers, codes and what geometry and diffusion need
stay. The samples are not searched for burned-in text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pellucid.formats import dicom_derive, dicom_header, identity

METHOD = "pellucid --private: PS3.15 Basic Profile, pixels not searched"
ROOT = "1.2.840.10008."  # identifiers of the standard itself
VOCABULARY = ("CodingSchemeUID", "ContextUID", "MappingResourceUID", "ContextGroupExtensionCreatorUID")
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"  # transfer syntaxes, little endian
EMPTY: tuple[str, ...] = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
)
EMPTY += ("AccessionNumber", "ReferringPhysicianName")  # type 2: present, without a value
SHOWN = (*EMPTY, "InstitutionName", "StationName", "OperatorsName", "StudyDescription", "SeriesDescription")
GROUPS = frozenset((0x0010, 0x0012, 0x0032, 0x0038, 0x0088, 0x0400, 0x2100, 0x2110, 0x2200, 0x4000, 0x4008, 0xFFFC))
DATED = frozenset(("DA", "DT", "TM", "PN", "AE", "AS"))
WORDED = frozenset(("LO", "SH", "ST", "LT", "UT", "UC", "UR"))
TECHNICAL = frozenset(
    "Manufacturer ManufacturerModelName SoftwareVersions SequenceName PulseSequenceName ImagedNucleus ReceiveCoilName "
    "TransmitCoilName ReceiveCoilManufacturerName CodeValue CodingSchemeDesignator CodingSchemeVersion CodeMeaning "
    "LongCodeValue RescaleType ConvolutionKernel FilterType ModalityLUTType LUTLabel WindowCenterWidthExplanation "
    "ImplementationVersionName TransducerType ProcessingFunction DimensionDescriptionLabel DimensionOrganizationLabel "
    "StackID MultiCoilElementName SpectrallySelectedSuppression ParallelReductionTechnique LossyImageCompressionMethod "
    "VolumetricProperties RadionuclideCodeMeaning ReconstructionMethod ScatterCorrectionMethod "
    "AttenuationCorrectionMethod DecayCorrection".split()
)
SEQUENCES = frozenset(  # dropped whole
    "RequestAttributesSequence ReferencedStudySequence ReferencedPatientSequence ReferencedVisitSequence "
    "ReferencedPerformedProcedureStepSequence OriginalAttributesSequence ModifiedAttributesSequence "
    "ContributingEquipmentSequence GraphicAnnotationSequence AcquisitionContextSequence ContentSequence "
    "EncryptedAttributesSequence DigitalSignaturesSequence MACParametersSequence IconImageSequence "
    "ProcedureCodeSequence ReferencedInstanceSequence InstitutionCodeSequence PerformedProtocolCodeSequence "
    "OperatorIdentificationSequence PhysiciansReadingStudyIdentificationSequence AdmittingDiagnosesCodeSequence "
    "PersonIdentificationCodeSequence".split()
)
# private elements that geometry and diffusion need: (group, creator) -> elements (PS3.15 table E.3.10-1)
NEEDED = {
    (0x0019, "SIEMENS MR HEADER"): (0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x27, 0x28, 0x29),
    (0x0043, "GEMS_PARM_01"): (0x2F, 0x39),
    (0x0019, "GEMS_ACQU_01"): (0xBB, 0xBC, 0xBD),
    (0x2001, "Philips Imaging DD 001"): (0x03, 0x04, 0x0A, 0x2D),
    (0x2005, "Philips MR Imaging DD 001"): (0x0D, 0x0E, 0xB0, 0xB1, 0xB2),
    (0x2005, "Philips MR Imaging DD 005"): (0x12, 0x13),
}
CSA = (0x0029, "SIEMENS CSA HEADER", 0x10)  # of mosaics: how many slices, and which way they go
SHORTEST = 3  # letters of a name that is looked for in texts that stay
CODES_0040 = range(0x9000, 0xB000)  # real-world values and codes; the rest of the group tells of procedures


def anonymise(path: Path) -> None:
    """Rewrite a file, or every file of a folder under a number for its name."""
    if not path.is_dir():
        _file(path, path)
        return
    files = sorted(p for p in path.iterdir() if p.is_file())
    width = max(5, len(str(len(files))))
    for number, source in enumerate(files, start=1):  # names of files name people too; their order stays
        new = path / f".{number:0{width}d}"
        _file(source, new)
        source.unlink()
    for number in range(1, len(files) + 1):
        (path / f".{number:0{width}d}").rename(path / f"{number:0{width}d}.dcm")


def people(path: Path) -> dict[str, str]:
    """Return who and when the header of a file, or of a folder's first file, names."""
    source = min((p for p in path.iterdir() if p.is_file()), default=path) if path.is_dir() else path
    dataset = dicom_header.whole(source)
    found = {keyword: str(dataset.get(keyword) or "") for keyword in SHOWN}
    return {keyword: value for keyword, value in found.items() if value}


def _file(source: Path, target: Path) -> None:
    library = dicom_header.library(source)
    with dicom_header.worded(source):
        dataset = library.dcmread(source, force=True)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        mosaic = "MOSAIC" in [str(v).upper() for v in _values(dataset.get("ImageType"))]
        secrets = _secrets(dataset)
        scrub(dataset, mosaic)
        _leftovers(dataset, secrets)
        _finish(dataset)
        dataset.file_meta.TransferSyntaxUID = EXPLICIT if syntax == IMPLICIT else syntax
        dicom_derive.save(dataset, target)


def _finish(dataset: Any) -> None:
    """Fill what must be there, and say what was done."""
    for keyword in EMPTY:
        setattr(dataset, keyword, "")
    dataset.PatientIdentityRemoved, dataset.DeidentificationMethod = "YES", METHOD
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DerivationDescription = dicom_derive.WORDS
    meta = dataset.file_meta
    for element in [
        e for e in meta if e.tag.element in (0x0016, 0x0017, 0x0018, 0x0026, 0x0027, 0x0028, 0x0100, 0x0102)
    ]:
        del meta[element.tag]
    if "SOPInstanceUID" in dataset:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.preamble = bytes(128)


def scrub(dataset: Any, mosaic: bool) -> None:
    """Take out of a dataset, and of every item within, what the profile takes out."""
    needed = _needed(dataset, mosaic)
    for tag in list(dataset.keys()):
        element = dataset[tag]
        if tag.is_private:
            if tag not in needed:
                del dataset[tag]
            continue
        if _goes(element):
            del dataset[tag]
        elif element.VR == "SQ":
            for item in element.value:
                scrub(item, mosaic)
        elif element.VR == "UI" and element.keyword not in VOCABULARY:
            element.value = _renamed(element.value)


def _goes(element: Any) -> bool:
    group, number = element.tag.group, element.tag.element
    if group in GROUPS or (group == 0x0040 and number not in CODES_0040) or group >> 8 in (0x50, 0x60):
        return True
    if element.VR in DATED or element.VR == "UN" or element.keyword in SEQUENCES:
        return True
    if element.VR == "SQ":
        return False
    if element.VR in WORDED:
        return element.keyword not in TECHNICAL
    if element.VR in ("IS", "DS", "CS"):
        return any(identity.DAY.search(str(v)) for v in _values(element.value))
    return element.keyword in ("DeviceSerialNumber", "TimezoneOffsetFromUTC")


def _renamed(value: Any) -> Any:
    """Return identifiers of objects as others made of them; the standard's own stay."""
    many = not isinstance(value, str)
    found = [
        str(v) if str(v).startswith(ROOT) or not v else dicom_derive.new_uid("private", str(v)) for v in _values(value)
    ]
    return found if many and len(found) != 1 else found[0] if found else ""


def _needed(dataset: Any, mosaic: bool) -> set[Any]:
    """Return the tags of private elements that stay, and of the creators they need."""
    wanted = dict(NEEDED) | ({CSA[:2]: (CSA[2],)} if mosaic else {})
    found: set[Any] = set()
    for (group, creator), elements in wanted.items():
        try:
            block = dataset.private_block(group, creator)
        except KeyError:
            continue
        here = {block.get_tag(e) for e in elements if e in block}
        here = {tag for tag in here if dataset[tag].VR not in WORDED | DATED}
        if here:
            found |= here | {(group << 16) + (block.block_start >> 8)}
    return found


def _values(value: Any) -> list[Any]:
    """Return the values of an element as a list."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | int | float) or not hasattr(value, "__iter__") else list(value)


def _secrets(dataset: Any) -> frozenset[str]:
    """Return the names and numbers of the person, to be looked for in what stays."""
    words: set[str] = set()
    for element in dataset.group_dataset(0x0010):
        if element.VR in ("PN", "LO", "SH", "DA"):
            for value in _values(element.value):
                words |= {
                    w for w in str(value).lower().replace("^", " ").replace("=", " ").split() if len(w) >= SHORTEST
                }
    return frozenset(words)


def _leftovers(dataset: Any, secrets: frozenset[str]) -> None:
    """Delete technical texts and blank private bytes that repeat a name or number of the person."""
    for element in list(dataset.iterall()):
        if element.VR in WORDED and any(s in str(element.value).lower() for s in secrets):
            element.value = ""
        if element.tag.is_private and isinstance(element.value, bytes):
            low, raw = element.value.lower(), bytearray(element.value)
            for secret in (s.encode("latin-1", "ignore") for s in secrets):
                at = low.find(secret) if secret else -1
                while at >= 0:
                    raw[at : at + len(secret)] = b" " * len(secret)
                    at = low.find(secret, at + 1)
            element.value = bytes(raw)
