"""From messages to trained tokens: what the template writes, and where the loss falls.

`encode` spells out what TRL's SFTTrainer does to prompt-completion rows, and `token_view` shows the
result. `check_template` looks for template faults that raise no error in training but leave a model
that rambles, never stops or writes its users' lines. `begin_with_bos` repairs one of them.
"""

from postlab import _doors
from postlab.chat.control import control_tokens
from postlab.chat.encoding import encode
from postlab.chat.rendering import begin_with_bos, end_of_turn_id
from postlab.chat.templates import TEMPLATE_CODES, check_template
from postlab.chat.view import TokenView, token_view, visible

__all__ = [
    "TEMPLATE_CODES",
    "TokenView",
    "begin_with_bos",
    "check_template",
    "control_tokens",
    "encode",
    "end_of_turn_id",
    "token_view",
    "visible",
]

_doors.publish(__name__)
