"""Have of `apps/text` what this app needs: its models, where it cuts texts, how a long call lets other jobs go on.

Divergence: its files are loaded by their places. A served app's folder is a package of its own, and imports from no
other one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from streamapp.loading import load_module

if TYPE_CHECKING:
    from apps.text.checkpoints import load_checkpoint as load_checkpoint
    from apps.text.chunks import cut_by_length as cut_by_length
    from apps.text.models import Heard as Heard
    from apps.text.models import Models as Models
    from apps.text.models import load as load
    from apps.text.turns import by_turns as by_turns
else:
    _checkpoints, _chunks, _models, _turns = (
        load_module(str(Path(__file__).parent.parent / "text" / f"{name}.py"))
        for name in ("checkpoints", "chunks", "models", "turns")
    )
    load_checkpoint = _checkpoints.load_checkpoint
    cut_by_length = _chunks.cut_by_length
    Heard, Models, load = _models.Heard, _models.Models, _models.load
    by_turns = _turns.by_turns
