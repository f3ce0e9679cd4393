"""What a manifest says of networks in exact integers: their graphs give the same numbers on every machine, for ever."""

from pydantic import Field, model_validator

from artifact.code_prior import EXACT_PRIOR, Link, link_role, step_roles
from artifact.graph import FileName, Graph
from artifact.part import Part, Sha256

EXACT_GOLDEN_FILE = "exact.npz"


class ExactPart(Part):
    """Networks whose tensors are integers, carried in float32 small enough that every sum is exact in any order.

    Attributes:
        graphs: by role.
        canonical_hash: sha256 of the integers and of what is done with them, whatever the ONNX files are: what has the
            same one reads what was written.
        golden: the file of golden integers; see `artifact.exact_golden`.
    """

    graphs: dict[str, Graph]
    canonical_hash: Sha256
    golden: FileName = EXACT_GOLDEN_FILE


class ExactParity(Part):
    """What was compared before publication; a single integer that differs keeps a model from being published.

    Attributes:
        grids: of held-out codes, all links counted.
        integers: of logits that torch gave in float64, and ONNX Runtime in float32, at once and step by step.
    """

    grids: int
    integers: int


class ExactPrior(ExactPart):
    """The prior over codes that codes are written and read under: a chain of links, as in `CodePrior`.

    Link i has the role `prior_exact` for i = 0, else `prior_exact_<i>`, and the graphs that a `Link` of a `CodePrior`
    has. Logits are integers in units of 2^-8 nats, carried in float32.

    Attributes:
        links: in the order in which codes are coded.
        conditions: see `CodePrior`.
        float_bits_per_token: what a code of the test split takes on average, nothing else being known of it, under the
            prior in floating point that this one was made of; without attention it may be another than codes are drawn
            from.
        exact_bits_per_token: likewise under this one.
        parity: see `ExactParity`.
    """

    links: tuple[Link, ...] = Field(min_length=1)
    conditions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    float_bits_per_token: float = Field(gt=0)
    exact_bits_per_token: float = Field(gt=0)
    parity: ExactParity

    @model_validator(mode="after")
    def _has_its_graphs(self) -> "ExactPrior":
        for index, link in enumerate(self.links):
            missing = {link_role(index, EXACT_PRIOR), *step_roles(link, index, EXACT_PRIOR)} - self.graphs.keys()
            if missing:
                raise ValueError(f"link {index} of the exact prior lacks the graphs {sorted(missing)}")
        return self
