"""The pipeline DSL, built on the public operations alone.

The listing is the architecture. `blocks` and `parts` look at what users hand over, when it is built. Each method is a
node: `straight`, `lines`, `loops`, `side`, `ends`. A `chain` follows its nodes; what it asks for (`requests`) is done
by `perform`, sync or async, so that every meaning is written once. `forms` says under which id it runs, `running` how,
`building` and `start` have the methods and their types, `picture` draws it.
"""

from flowkit.sequencer.building import Sequencer
from flowkit.sequencer.start import Start, sequencer

__all__ = ["Sequencer", "Start", "sequencer"]
