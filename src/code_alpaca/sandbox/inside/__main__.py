"""Start the fork server (see `fork_server`).

python -s -S THIS_FILE CONTROL_FD '{"readable": [...], "work_folder": "/sandbox", ...}'
"""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from inside.fork_server import main  # noqa: E402 - found in the folder that was just added

main()
