"""``python -m onechange``: the command line where no script is on the path."""

import sys

from .cli.main import main

sys.exit(main())
