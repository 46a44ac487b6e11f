"""Start JupyterLab on the notebooks: `make lab`, on your own machine or a rented one.

With a screen, a browser opens. Without one (root, an SSH session, no display) Jupyter only serves,
and this script prints the SSH tunnel command with the port that Jupyter actually got. Either way
it listens on localhost, and its token is whatever Jupyter makes it. It never serves to the network.
In a container (the Dockerfile sets POSTLAB_CONTAINER) it listens on every address of the container,
because Docker publishes a port from there, and whom Docker lets in is up to its `-p`.
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


def options(*, remote: bool, root: bool, container: bool = False) -> list[str]:
    """JupyterLab's command line; these options override the user's own Jupyter configuration."""
    address = "0.0.0.0" if container else "localhost"
    chosen = [f"--ServerApp.root_dir={NOTEBOOKS}", f"--ServerApp.ip={address}"]
    return chosen + ["--no-browser"] * remote + ["--allow-root"] * root


def how_to_reach(port: int, user: str) -> str:
    """What to do on the other machine. One port on both ends, so that Jupyter's address fits."""
    return (
        "\nJupyterLab is running without a browser and listens only on localhost.\n"
        "  1. On your own computer, open an SSH tunnel. Replace this-machine with the host you\n"
        "     log in to, and add -p PORT if you use one. (On your own computer, skip this step.)\n"
        f"       ssh -N -L {port}:localhost:{port} {user}@this-machine\n"
        f"  2. In your browser, open the address http://localhost:{port}/lab?token=... that\n"
        "     Jupyter prints below.\n"
    )


def how_to_reach_container(port: int) -> str:
    """What to do outside the container."""
    return (
        f"\nJupyterLab is running in a container, started with -p 127.0.0.1:{port}:{port} if your "
        f"browser is to\nreach it. Open the address http://127.0.0.1:{port}/lab?token=... that "
        f"Jupyter prints below.\n"
    )


def main() -> None:
    """Start the server, say how to reach it, and serve until it is stopped."""
    from jupyterlab.labapp import LabApp

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    container = bool(os.environ.get("POSTLAB_CONTAINER"))
    remote = container or is_remote(os.environ, root=root, platform=sys.platform)
    chosen = options(remote=remote, root=root, container=container)
    server = LabApp.initialize_server(argv=chosen)
    if container:
        print(how_to_reach_container(server.port), flush=True)
    elif remote:  # the port is taken by now: 8888, or the next one that was free
        print(how_to_reach(server.port, getpass.getuser()), flush=True)
    server.start()


if __name__ == "__main__":
    main()
