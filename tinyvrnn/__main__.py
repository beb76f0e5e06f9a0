"""`python -m tinyvrnn` is the command `tinyvrnn`."""

import sys

from tinyvrnn.cli import main

sys.exit(main())
