"""Types shared by several packages."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SessionFactory = Callable[[], AbstractContextManager["Session"]]  # one transaction per session
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Times = NDArray[np.datetime64]
