"""The autoregressive decoder: steps against the parallel pass, causality, and what a sound costs."""

import pytest
import torch

from models.sound_likelihoods import mu_law, pcm
from models.wavenet_decoder import WaveNetDecoder

DOWNSAMPLING, LENGTH = 8, 48


@pytest.fixture
def decoder() -> WaveNetDecoder:
    torch.manual_seed(0)
    return WaveNetDecoder(
        3, DOWNSAMPLING, features=5, channels=6, skip_channels=8, cycles=2, layers=3, hidden=16, num_speakers=2
    ).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return 0.3 * torch.randn(2, LENGTH, generator=torch.Generator().manual_seed(1)).clamp(-3.0, 3.0)


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(2, 3, LENGTH // DOWNSAMPLING, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_a_step_is_the_parallel_pass(decoder: WaveNetDecoder, x: torch.Tensor, z: torch.Tensor) -> None:
    conditions = {"speaker": torch.tensor([1, 2])}
    classes, given = mu_law(pcm(x)), decoder.given(z)
    parallel = decoder.wavenet(classes, given, conditions)
    caches = {name: torch.full((2, *shape), torch.nan) for name, shape in decoder.memory().caches.items()}
    for place in range(LENGTH):
        before = classes[:, place - 1]
        found = decoder.step(before, torch.full((2,), place), caches, given[:, place], conditions)
        assert torch.allclose(found.logits, parallel[..., place], atol=1e-5), place
        for name, entry in found.entries.items():
            caches[name][:, place % caches[name].shape[1]] = entry


@torch.no_grad()
def test_a_sample_depends_on_those_before_it_alone(decoder: WaveNetDecoder, x: torch.Tensor, z: torch.Tensor) -> None:
    nats = decoder.sample_log_prob(x, z)
    changed = x.clone()
    changed[:, 20] = -x[:, 20]
    again = decoder.sample_log_prob(changed, z)
    assert torch.equal(nats[:, :20], again[:, :20])
    assert not torch.equal(nats[:, 21:], again[:, 21:])


@torch.no_grad()
def test_codes_and_speakers_matter(decoder: WaveNetDecoder, x: torch.Tensor, z: torch.Tensor) -> None:
    nats = decoder.sample_log_prob(x, z)
    assert nats.shape == x.shape
    assert (nats < 0).all()
    none = decoder.sample_log_prob(x, z, {"speaker": torch.tensor([2, 2])})
    assert torch.equal(nats, none)
    assert not torch.equal(nats, decoder.sample_log_prob(x, z, {"speaker": torch.tensor([0, 1])}))
    assert not torch.equal(nats, decoder.sample_log_prob(x, z.flip(-1)))


def test_a_draw_is_what_its_noise_says(decoder: WaveNetDecoder, z: torch.Tensor) -> None:
    noise = torch.rand(2, LENGTH, generator=torch.Generator().manual_seed(3))
    drawn = decoder.draw(z, noise)
    with torch.no_grad():
        logits = decoder.wavenet(mu_law(pcm(drawn)), decoder.given(z))
    above = logits.double().softmax(1).cumsum(1)
    expected = (above <= noise[:, None].double()).sum(1)
    assert torch.equal(mu_law(pcm(drawn)), expected)
    assert torch.equal(decoder.draw(z[:1], noise[:1]), drawn[:1])


def test_it_learns_a_tone() -> None:
    torch.manual_seed(0)
    decoder = WaveNetDecoder(1, 8, features=2, channels=8, skip_channels=8, cycles=1, layers=4, hidden=32)
    x = 0.5 * torch.sin(torch.arange(256) * 0.3)[None]
    z = torch.zeros(1, 1, 32)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    before = decoder.sample_log_prob(x, z).mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        (-decoder.sample_log_prob(x, z).mean()).backward()
        optimizer.step()
    assert decoder.sample_log_prob(x, z).mean().item() > before + 2.0
