"""From an artifact on disk to a model that answers: sessions built, batch sizes chosen, every one of them run once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from artifact.manifest import CodePrior, DiscreteLevel, Graph, Manifest, Precision
from artifact.sampling import all_exact_steps, all_steps
from artifact.store import Artifact
from service.engine.batcher import Key
from service.engine.devices import DeviceReport, GpuOptions, Provider
from service.engine.plan import Plan
from service.engine.precision import choose_variant
from service.engine.profile import SIZES, ProfileCache, environment, measure
from service.engine.runtime import Session
from service.engine.sizes import example, row_values, slots
from service.errors import CapabilityError
from service.settings import Settings

SAMPLE_SLICE = 32
"""Importance samples of one run of `log_weight`: whatever the batch, so that a row alone gives the same numbers."""

READ = {"decode": ("mean",)}
"""The outputs that the service reads of a graph that has more: a mixture's parameters outweigh its mean many times."""


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is loaded and answers; it lives as long as somebody uses it.

    Attributes:
        reference: `name@version`.
        manifest: the artifact's.
        precision: of its graphs; None for the full one.
        sessions: its graphs by role.
        plans: the batch sizes of each; of exact graphs that are run step by step there are none.
        exact_fault: why nothing can be coded with its exact networks on this machine; None where all is well.
    """

    reference: str
    manifest: Manifest
    precision: Precision | None
    sessions: Mapping[str, Session] = field(repr=False)
    plans: Mapping[str, Plan] = field(repr=False)
    exact_fault: str | None = None

    @property
    def version(self) -> int:
        """The version in the store."""
        return int(self.reference.rpartition("@")[2])

    @cached_property
    def code_level(self) -> DiscreteLevel | None:
        """The level of integer codes; None for a model of real-valued latents."""
        level = self.manifest.latent[0]
        return level if isinstance(level, DiscreteLevel) else None

    @property
    def prior(self) -> CodePrior:
        """The learned prior over codes.

        Raises:
            CapabilityError: there is none.
        """
        if self.manifest.prior is None:
            raise CapabilityError(f"{self.reference} has no learned prior to draw from; choose another model")
        return self.manifest.prior


def open_model(artifact: Artifact, device: DeviceReport, settings: Settings) -> ServedModel:
    """Build the sessions of an artifact, choose their batch sizes and run each of them once.

    Args:
        artifact: verified.
        device: what the graphs run on.
        settings: threads, batch sizes and limits.

    Returns:
        The model, warm.

    Raises:
        ArtifactError: a graph cannot be loaded, or is not as declared.
        DeviceError: the device does not work.
    """
    manifest = artifact.manifest
    steps = {*all_steps(manifest), *all_exact_steps(manifest)}
    variant = choose_variant(manifest, settings.precision, device.provider)

    def session(role: str, graph: Graph, provider: Provider) -> Session:
        return Session(
            artifact.file(role, variant),
            role,
            graph,
            provider=provider,
            # Steps are many and small: the cores that a step would be shared among are worth more to other runs.
            threads=settings.threads or int(role in steps),
            read=READ.get(role),
            gpu=GpuOptions.of(settings),
            largest={"B": max(*(settings.buckets or SIZES), settings.slots), "S": SAMPLE_SLICE},
        )

    sessions = {role: session(role, graph, device.provider) for role, graph in manifest.graphs_in(variant).items()}
    # Devices multiply matrices in ways of their own, and their drivers change: only CPUs are held to exact integers.
    sessions |= {role: session(role, graph, "cpu") for role, graph in manifest.exact_graphs.items()}
    plans = _plans(artifact, sessions, environment(device, settings, variant), settings)
    return ServedModel(artifact.reference, manifest, variant, sessions, plans)


def _plans(
    artifact: Artifact, sessions: Mapping[str, Session], environment: Mapping[str, str], settings: Settings
) -> dict[str, Plan]:
    """Choose the batch sizes of every graph: those that are set, those of the profile, or measured now."""
    manifest = artifact.manifest
    cache = ProfileCache(settings.store, environment)
    known = {} if settings.buckets else cache.read(artifact.reference, manifest.model_hash)
    steps = all_exact_steps(manifest)
    seconds = {
        role: _run_sizes(manifest, role, session, known, settings)
        for role, session in sessions.items()
        if role not in steps
    }
    if settings.buckets:
        return {role: Plan(times) for role, times in seconds.items()}
    if known != seconds:
        cache.write(artifact.reference, manifest.model_hash, seconds)
    return {role: Plan.of(times) for role, times in seconds.items()}


def _run_sizes(
    manifest: Manifest, role: str, session: Session, known: Mapping[str, Mapping[int, float]], settings: Settings
) -> dict[int, float]:
    """Run a graph at every batch size that it may be asked for, and give the seconds of each."""
    row = example(manifest, role, SAMPLE_SLICE)
    most = max(1, settings.max_run_values // row_values(manifest, Key.of(None, role, row)))
    allowed = tuple(size for size in settings.buckets or SIZES if size <= most) or (1,)
    if role in all_steps(manifest):
        allowed = (slots(manifest, settings),)

    def run(size: int) -> None:
        session.run({name: np.repeat(array, size, axis=0) for name, array in row.items()})

    if settings.buckets:
        return {size: measure(run, (size,))[size] for size in allowed}
    if known.get(role, {}).keys().isdisjoint(allowed):
        return measure(run, allowed)
    plan = Plan.of(known[role])
    for size in plan.buckets:
        run(size)
    return dict(known[role])
