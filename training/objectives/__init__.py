"""Objectives: what a fit minimises, each with the recipe's `[objective]` table that asks for it."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from training.objectives.adversarial import AdversarialConfig as AdversarialConfig
from training.objectives.base import DataFacts as DataFacts
from training.objectives.base import ModelObjective as ModelObjective
from training.objectives.base import ModelObjectiveConfig as ModelObjectiveConfig
from training.objectives.base import Objective as Objective
from training.objectives.base import Step as Step
from training.objectives.code_length import CodeLength as CodeLength
from training.objectives.iwae import IWAE as IWAE
from training.objectives.iwae import IWAEConfig as IWAEConfig
from training.objectives.ppca import ClosedFormConfig as ClosedFormConfig
from training.objectives.ppca import EMConfig as EMConfig
from training.objectives.reconstruction import Reconstruction as Reconstruction
from training.objectives.reconstruction import ReconstructionConfig as ReconstructionConfig
from training.objectives.sgvb import SGVB as SGVB
from training.objectives.sgvb import SGVBConfig as SGVBConfig
from training.objectives.variational_em import VariationalEM as VariationalEM
from training.objectives.variational_em import VariationalEMConfig as VariationalEMConfig


def _named(table: Any) -> Any:
    """Let a table that names no kind be of the usual one."""
    return {"kind": "sgvb", **table} if isinstance(table, dict) else table


if TYPE_CHECKING:
    ObjectiveConfig = ModelObjectiveConfig
else:
    ObjectiveConfig = Annotated[
        Annotated[
            SGVBConfig
            | IWAEConfig
            | VariationalEMConfig
            | AdversarialConfig
            | ReconstructionConfig
            | ClosedFormConfig
            | EMConfig,
            Field(discriminator="kind"),
        ],
        BeforeValidator(_named),
    ]
