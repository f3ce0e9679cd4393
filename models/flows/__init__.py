"""Flows: invertible maps of z whose volume change is known, one step after the other."""

from models.flows.autoregressive import InverseAutoregressive as InverseAutoregressive
from models.flows.base import Flow as Flow
from models.flows.base import Mapped as Mapped
from models.flows.base import Transform as Transform
from models.flows.coupling import AffineCoupling as AffineCoupling
from models.flows.planar import Planar as Planar
from models.flows.radial import Radial as Radial
