# SPDX-License-Identifier: Apache-2.0
"""The words after ``pellucid``: data, so that help, listing and completion import nothing."""

FIELDS = (
    ("mri", "Denoise MRI volumes and series; geometry, header and gradient files are kept."),
    ("hyperspectral", "Denoise hyperspectral scenes; bands, tags and georeference are kept."),
    ("speech", "Denoise speech recordings; rate, channels, length and chunks are kept."),
    ("ultrasound", "Denoise, despeckle and separate ultrasound cines, RF and IQ; graphics are kept."),
    ("raw", "Denoise camera raw before demosaicking; levels, colours and tags are kept."),
    ("image", "Denoise grey and colour pictures; profile and metadata are kept."),
)

MORE = {  # verbs of single fields
    "ultrasound": (
        ("despeckle", "Smooth speckle for reading and segmentation."),
        ("clutter", "Separate blood from tissue in RF or IQ ensembles."),
        ("bmode", "Make the picture: beamform, envelope, log compression, Doppler."),
    ),
    "raw": (
        ("calibrate", "Measure a camera's noise from flats and darks."),
        ("develop", "Make a 16-bit picture: white balance, demosaic, colour, profile."),
    ),
    "hyperspectral": (("destripe", "Remove column stripes and leave everything else alone."),),
    "speech": (("dereverb", "Remove late reverberation (WPE)."),),
}

TOOLS = (
    ("info", "Tell what a file is and which field it belongs to."),
    ("demo", "Simulate, denoise and compare in one go; writes a picture."),
    ("example", "Write a small simulated file with its truth beside it."),
    ("list", "List fields, methods or formats."),
    ("doctor", "Check this installation, its libraries, devices and limits."),
    ("cite", "Print the references of a result's sidecar or of a method."),
    ("config", "Show each setting and where it comes from."),
)

VERBS = (
    ("info", "Tell what a file is: axes, units, spacing, and whether it can be denoised."),
    ("estimate", "Estimate the noise level without denoising."),
    ("denoise", "Denoise files of this field."),
    ("simulate", "Simulate a measurement of this field; the truth is written beside it."),
    ("evaluate", "Measure a result against a reference, its input, or both."),
    ("methods", "List the methods of this field, the default first."),
)
