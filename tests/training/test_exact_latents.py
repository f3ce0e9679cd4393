"""An exact VAE of a run: fitted, exported with proof, and worth its bits in archives that ONNX Runtime writes."""

import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from artifact.errors import InexactError
from artifact.exact_latents import ExactLatents
from artifact.golden import Run as RunGraph
from artifact.latent_networks import LatentNetworks
from artifact.latents_golden import read, read_contexts
from artifact.manifest import ImageGeometry, Manifest
from artifact.sampling import complete
from artifact.store import Artifact, file_sha256
from codec.archive import read_archive, write_archive
from codec.bits_back import pack
from models.exact.vae import ExactVAE
from training.cli import main
from training.data import Splits, load
from training.draft import Draft
from training.errors import ExportError, RunError
from training.exact.vae import context_logits, read_exact_vae
from training.graphs.exact_latents import exact_latent_graphs
from training.latents_export import compare, export_exact_latents
from training.parity import Graphs
from training.run import Run

SHAPE = (8, 8, 1)
FIT = ["--fit.steps", "60", "--objective.rate_weight", "0.1"]
EXACT_FIT = ["--exact.fit.steps", "4", "--exact.fit.validate_every", "2", "--exact.fit.threads", "1"]


@pytest.fixture(scope="module")
def run(recipe_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("runs") / "bars-vae"
    assert main(["fit", str(recipe_file), "--output", str(path), *FIT]) == 0
    assert main(["fit-exact", str(path), *EXACT_FIT]) == 0
    return Run(path)


@pytest.fixture(scope="module")
def splits(run: Run) -> Splits:
    return load(run.recipe().data)


@dataclass(frozen=True)
class Exported:
    part: ExactLatents
    folder: Path
    graphs: RunGraph

    @property
    def contexts(self) -> np.ndarray:
        path = self.folder / self.part.golden
        return read_contexts(path, file_sha256(path))


@pytest.fixture(scope="module")
def exported(run: Run, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder, recipe = tmp_path_factory.mktemp("exported"), run.recipe()
    model = run.model(recipe, SHAPE)
    fitted = read_exact_vae(run, model)
    assert fitted is not None
    draft = Draft(recipe, model, None, splits, ImageGeometry(channels=1, height=8, width=8))
    part = export_exact_latents(draft, fitted, folder)
    assert part is not None
    return Exported(part, folder, Graphs(exact_latent_graphs(fitted.network, SHAPE), folder).run)


def network_of(run: Run) -> ExactVAE:
    fitted = read_exact_vae(run, run.model(run.recipe(), SHAPE))
    assert fitted is not None
    return fitted.network


def test_a_fit_is_not_begun_twice(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-exact", str(run.path), *EXACT_FIT]) == 1
    assert "holds a fit already; add --resume" in capsys.readouterr().err
    exact = run.recipe().exact
    assert exact is not None
    assert exact.fit.steps == 4


def test_the_manifest_says_what_was_proven(exported: Exported) -> None:
    part = exported.part
    assert part.parity.integers > 0
    assert 0 < sum(part.sizes) <= 4
    assert abs(part.exact_elbo_nats - part.float_elbo_nats) < 0.05 * abs(part.float_elbo_nats)
    for graph in part.graphs.values():
        assert file_sha256(exported.folder / graph.file) == graph.sha256


def test_archives_by_the_written_graphs(exported: Exported, splits: Splits) -> None:
    part, graphs = exported.part, exported.graphs
    networks = LatentNetworks(part, exported.contexts)
    pictures = (splits.test.fixed()[:40, ..., 0] > 0).astype(np.uint8)
    packed = complete(pack(pictures, networks), graphs)
    coded = write_archive(packed, pictures, extent=(8, 8), model_hash="00" * 32, canonical_hash=part.canonical_hash)
    np.testing.assert_array_equal(complete(read_archive(coded, networks, 40), graphs), pictures)
    assert packed.direct < 40
    net_bits = sum(cost.net_bits for cost in packed.costs)
    assert abs(8 * len(packed.payload) - net_bits) < 0.02 * net_bits + 32


def test_golden_integers_tell_a_runtime_that_gives_others(exported: Exported) -> None:
    artifact = Artifact(path=exported.folder, version=1, manifest=Manifest.model_construct())
    golden = read(artifact, exported.part)
    assert golden.check(exported.graphs) > 0
    for changed in ("features_0", "mean", "scale", "logits"):

        def off_by_one(role: str, feeds: dict[str, np.ndarray], changed: str = changed) -> dict[str, np.ndarray]:
            return {name: values + (name == changed) for name, values in exported.graphs(role, feeds).items()}

        with pytest.raises(InexactError, match="are not those of the export"):
            golden.check(off_by_one)
    with pytest.raises(InexactError, match="exchanged since"):
        read_contexts(exported.folder / exported.part.golden, "00" * 32)


def test_an_export_whose_integers_differ_is_refused(run: Run, exported: Exported, splits: Splits) -> None:
    network, x = network_of(run), splits.test.fixed()[:5]
    specs = exact_latent_graphs(network, SHAPE)
    assert compare(network, specs, exported.graphs, x).integers > 0
    network.decoder[0].linear.bias += 1000
    with pytest.raises(ExportError, match="that the exact VAE gives"):
        compare(network, specs, exported.graphs, x)


def test_contexts_are_counted_over_the_training_split(splits: Splits) -> None:
    pixels = np.pad(splits.train.fixed()[..., 0] > 0, ((0, 0), (2, 0), (3, 3)))
    counts = [0, 0]
    for picture in pixels:
        for y, x in product(range(2, 10), range(3, 11)):
            around = [*picture[y, x - 3 : x], *picture[y - 1, x - 2 : x + 4], *picture[y - 2, x - 1 : x + 2]]
            if not any(around):
                counts[int(picture[y, x])] += 1
    expected = 256 * np.log((counts[1] + 0.4) / (counts[0] + 0.4))
    assert context_logits(splits.train)[0] == round(expected)


def test_integers_of_other_weights_are_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "run")
    shutil.copytree(run.path, other.path)
    model = other.model(other.recipe(), SHAPE)
    assert read_exact_vae(other, model) is not None
    other.best.write_bytes(other.best.read_bytes() + b" ")
    with pytest.raises(RunError, match="was made of other weights"):
        read_exact_vae(other, model)
    other.exact.unlink()
    assert read_exact_vae(other, model) is None
