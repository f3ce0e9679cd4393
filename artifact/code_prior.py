"""What a manifest says of a learned prior over codes: a chain of links, one for each grid of codes."""

from typing import Any, Literal

from pydantic import Field, model_validator

from artifact.part import Part, Sha256


class Link(Part):
    """The prior of one grid of codes, given those of the links before it.

    Link i has the role `prior` for i = 0, else `prior_<i>`, and these graphs, see `artifact.sampling`: the role itself,
    all places in parallel; step by step `<role>_row` and `<role>_pixel` for a raster, `<role>_step` for a sequence; and
    `<role>_given`, what the grids before it say of each place, where it depends on any.

    Attributes:
        level: index of the level whose codes they are.
        codebook: index of the codebook.
        order: `raster`, row by row, each row from left to right; or `sequence`, place by place.
        grid: places of a draw: height and width, or the length.
        any_size: whether grids of other sizes have a probability as well; else it is for `grid` alone.
    """

    level: int = Field(default=0, ge=0)
    codebook: int = Field(default=0, ge=0)
    order: Literal["raster", "sequence"] = "raster"
    grid: tuple[int, ...] = Field(min_length=1, max_length=2)
    any_size: bool = False


class CodePrior(Part):
    """A learned prior over all codes of an item: p(grid 0) p(grid 1 given grid 0) ..., a link each.

    Attributes:
        links: in the order in which codes are drawn: levels top first, and in a level its codebooks.
        conditions: what it can be conditioned on, by name, and the names of the classes of each: a graph takes a class'
            index, or their number for none. `label` is the input `condition`, any other has its own name.
        prior_hash: see `prior_hash`.
    """

    links: tuple[Link, ...] = Field(min_length=1)
    conditions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    prior_hash: Sha256

    @model_validator(mode="before")
    @classmethod
    def _read_schema_3(cls, content: Any) -> Any:
        """Read a prior of one grid as it was written before there were chains of them."""
        if not isinstance(content, dict) or "height" not in content:
            return content
        fields = dict(content)
        classes = fields.pop("classes", ())
        link = {"grid": (fields.pop("height"), fields.pop("width"))}
        return {"links": (link,), "conditions": {"label": classes} if classes else {}, **fields}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes of the condition `label`; empty where it takes none."""
        return self.conditions.get("label", ())


PRIOR, EXACT_PRIOR = "prior", "prior_exact"
"""How the roles of a prior's graphs begin: of the one that codes are drawn from, and of the one in exact integers."""


def link_role(index: int, prior: str = PRIOR) -> str:
    """Name the graph of a prior's link that gives all logits in parallel, and the beginning of its other graphs."""
    return f"{prior}_{index}" if index else prior


def step_roles(link: Link, index: int, prior: str = PRIOR) -> tuple[str, ...]:
    """Name the graphs that give the codes of a link step by step.

    Args:
        link: of a prior.
        index: its place in the chain.
        prior: how the roles of the prior begin.

    Returns:
        Roles.
    """
    steps = ("row", "pixel") if link.order == "raster" else ("step",)
    return tuple(f"{link_role(index, prior)}_{step}" for step in steps)


def condition_input(name: str) -> str:
    """Name the input of a graph that takes a condition."""
    return "condition" if name == "label" else name


def is_of_prior(role: str) -> bool:
    """Tell whether a graph is one of the prior over codes."""
    return role == "prior" or role.startswith("prior_")
