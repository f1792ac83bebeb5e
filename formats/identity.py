# SPDX-License-Identifier: Apache-2.0
"""Which keys of a header tell of people, days, places or paths, and which texts are technical.

Used by every ``anonymise``. Numbers stay unless their key is personal or they read as a day; texts stay only
under keys known to be technical: a free text may say anything.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
PERSONAL = frozenset(
    "patient patients subject participant person people name names surname firstname lastname familyname givenname "
    "birth birthday birthdate born dob age sex gender weight bmi ethnicity race religion occupation address city "
    "country phone telephone email mail contact institution institutional institute hospital clinic site station "
    "department ward location gps latitude longitude physician physicians doctor radiologist referring operator "
    "operators technician examiner author authors artist owner user username creator originator organisation "
    "organization laboratory lab investigator experimenter uid uids uuid guid id ids identifier identification "
    "accession serial mrn issuer date dates datetime day month history command cmdline path paths file files "
    "filename folder directory host hostname computer url uri comment comments note notes description descriptions "
    "remark remarks copyright log message signature diagnosis allergies session visit examination exam study "
    "protocol requested request keywords title caption owner admission".split()
)
CLOCK = frozenset("time times timestamp timestamps number".split())
EVENT = frozenset("study series acquisition content creation scan exam instance injection start procedure".split())
# squeezed keys whose words look personal and are not
KNOWN = frozenset(
    "patientposition imageorientationpatientdicom sequencename pulsesequencename coilname receivecoilname "
    "transmitcoilname receivecoilactiveelements manufacturersmodelname modelname bandnames spectralnames "
    "classnames longname standardname classname seriesnumber acquisitionnumber numberofvolumes numberofslices "
    "starttime bidsversion datafile elementdatafile file filetype datatype matlabclass dimensionlist referencelist "
    "samplingfrequency".split()
)
TEXTS = frozenset(  # squeezed keys whose texts are words of a machine
    "modality manufacturer manufacturersmodelname modelname patientposition scanningsequence sequencevariant "
    "scanoptions sequencename pulsesequencename pulsesequencetype mracquisitiontype phaseencodingdirection "
    "phaseencodingaxis inplanephaseencodingdirection inplanephaseencodingdirectiondicom slicethickness "
    "sliceencodingdirection softwareversions conversionsoftware conversionsoftwareversion imagetype imagetypetext "
    "coilstring receivecoilname receivecoilactiveelements matrixcoilmode parallelreductiontechnique "
    "parallelacquisitiontechnique partialfourierdirection nonlineargradientcorrection bodypart bodypartexamined "
    "units unit mrtrixversion space spacedirections measurementframe kinds anatomicalorientation distanceunits "
    "ultrasoundimageorientation ultrasoundimagetype objecttype objectsubtype transformtype fieldstrength "
    "partialfourierenabled coilcombinationmethod imageorientationtext fatsaturation datatype unitsintensity "
    "gradientsetup bidsversion tracername".split()
)
SEQUENCE = re.compile(r"seqframe\d+\w*?(status|transform|timestamp|imagetype|orientation|framenumber)|dwmri\w*")
NUMBERS = re.compile(r"[\s\d.,;:()\[\]+\-eE]*|nan|inf|none|true|false", re.IGNORECASE)
DAY = re.compile(r"(?<![\d.])(?:19|20)\d\d([-/.:]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?!\d)")
PLAIN = re.compile(r"[\w .,:;+*=()\[\]%\-\\]{0,120}")
PATH = re.compile(r"(/(home|users?|mnt|media|tmp)/|[A-Za-z]:\\|\\\\\w)", re.IGNORECASE)
EPOCH = 1e8  # seconds: numbers beyond count from 1970 and tell the day
CHUNK = 8 << 20


def squeezed(key: str) -> str:
    """Return the letters and digits of a key, in lower case."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def personal(key: str) -> bool:
    """Whether a key by its words names a person, a day, a place, an identifier or a free text.

    >>> personal("PatientName"), personal("study_date"), personal("EchoTime"), personal("SequenceName")
    (True, True, False, False)
    """
    if squeezed(key) in KNOWN:
        return False
    words = {w.lower() for w in WORD.findall(key)}
    return bool(words & PERSONAL) or (bool(words & CLOCK) and bool(words & EVENT) and "duration" not in words)


def cleaned(key: str, value: Any) -> Any:
    """Return a value with everything personal taken out; None where nothing is left.

    >>> cleaned("EchoTime", 0.08), cleaned("Note", "of Jane"), cleaned("Modality", "MR")
    (0.08, None, 'MR')
    """
    if personal(key):
        return None
    if isinstance(value, Mapping):
        return mapping(value)
    if isinstance(value, list | tuple):
        found = [cleaned(key, v) for v in value]
        return None if any(v is None for v in found) else found
    if isinstance(value, str):
        return value if harmless(key, value) else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        clock = set(w.lower() for w in WORD.findall(key)) & CLOCK
        return None if DAY.search(str(value)) or (clock and abs(value) >= EPOCH) else value
    return value


def harmless(key: str, value: str) -> bool:
    """Whether a text may stay under a key that is not personal: numbers, or words of a machine; never a day."""
    short = squeezed(key)
    if DAY.search(value):
        return False
    if NUMBERS.fullmatch(value):
        return True
    known = short in TEXTS or SEQUENCE.fullmatch(short) is not None
    return known and PLAIN.fullmatch(value) is not None


def mapping(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a JSON object that tell of nobody."""
    found = {str(k): cleaned(str(k), v) for k, v in content.items()}
    return {k: v for k, v in found.items() if v is not None}


def put(path: Path, temporary: Path) -> None:
    """Flush a rewritten file and put it in the place of the staged one."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def beside(path: Path) -> Path:
    """Return the name of a file in the making within the same stage."""
    return path.with_name(path.name + ".clean")
