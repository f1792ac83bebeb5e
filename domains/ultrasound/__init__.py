# SPDX-License-Identifier: Apache-2.0
"""Ultrasound: display images, envelopes, beamformed RF and IQ, single frames and cines."""
