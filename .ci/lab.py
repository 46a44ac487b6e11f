"""Start JupyterLab on the notebooks: `make lab`, on one's own machine and on a rented one.

With a screen a browser opens. Without one (root, an SSH session, no display) Jupyter only serves,
and the line for the tunnel that reaches it is printed, with the port that was really free. Either
way it listens on localhost and asks for its token. Left out: serving to a network.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def is_remote(env: Mapping[str, str], *, root: bool, platform: str) -> bool:
    """Whether a browser opened here would be seen by nobody, or would not start.

    >>> is_remote({"DISPLAY": ":0"}, root=False, platform="linux")
    False
    >>> is_remote({"DISPLAY": ":10", "SSH_CONNECTION": "…"}, root=False, platform="linux")
    True
    """
    screen = platform != "linux" or "DISPLAY" in env or "WAYLAND_DISPLAY" in env
    return root or "SSH_CONNECTION" in env or not screen


def options(*, remote: bool, root: bool) -> list[str]:
    """JupyterLab's command line. What stands on it wins over a configuration in one's home."""
    chosen = [f"--ServerApp.root_dir={NOTEBOOKS}", "--ServerApp.ip=localhost"]
    return chosen + ["--no-browser"] * remote + ["--allow-root"] * root


def how_to_reach(port: int, user: str) -> str:
    """What to do on the other machine. One port on both ends, so that Jupyter's address fits."""
    return (
        "\nJupyterLab runs here without a browser and listens on localhost only.\n"
        "  1. On your own computer, open a tunnel, with the host (and -p PORT) of your login:\n"
        f"       ssh -N -L {port}:localhost:{port} {user}@this-machine\n"
        f"  2. In your browser there, open the address http://localhost:{port}/lab?token=... that\n"
        "     Jupyter prints below.\n"
    )


def main() -> None:
    """Start the server, say how to reach it, and serve until it is stopped."""
    from jupyterlab.labapp import LabApp

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    remote = is_remote(os.environ, root=root, platform=sys.platform)
    server = LabApp.initialize_server(argv=options(remote=remote, root=root))
    if remote:  # the port is taken by now: 8888, or the next one that was free
        print(how_to_reach(server.port, getpass.getuser()), flush=True)
    server.start()


if __name__ == "__main__":
    main()
