"""From messages to trained tokens: what the chat template writes, and where the loss falls.

`encode` is what TRL's SFTTrainer does to prompt and completion rows, in the open; `token_view`
shows it, and `check_template` looks for the faults that train without an error and leave a model
that rambles, never stops or was taught its users' lines. `begin_with_bos` mends one of them.
"""

from postlab.encoding import encode
from postlab.rendering import begin_with_bos
from postlab.templates import check_template
from postlab.tokenview import token_view

__all__ = ["begin_with_bos", "check_template", "encode", "token_view"]
