# SPDX-License-Identifier: Apache-2.0
"""``python -m pellucid``: the same as the ``pellucid`` command."""

from pellucid.cli.main import main

if __name__ == "__main__":
    main()
