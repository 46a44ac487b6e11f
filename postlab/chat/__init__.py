"""From messages to trained tokens: what the template writes, and where the loss falls.

`encode` is what TRL's SFTTrainer does to prompt and completion rows, in the open; `token_view`
shows it, and `check_template` looks for the faults that train without an error and leave a model
that rambles, never stops or was taught its users' lines. `begin_with_bos` mends one of them.
"""

from postlab import _doors
from postlab.chat.encoding import encode
from postlab.chat.rendering import begin_with_bos
from postlab.chat.templates import check_template
from postlab.chat.view import TokenView, token_view, visible

__all__ = [
    "TokenView",
    "begin_with_bos",
    "check_template",
    "encode",
    "token_view",
    "visible",
]

_doors.publish(__name__)
