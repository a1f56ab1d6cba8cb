"""The net of a process, tried before it sees a picture, and set up for each question."""

from __future__ import annotations

from dataclasses import replace

import torch

from client.bookkeeping.gradients import PrivateGradients
from client.groups import FairRound, Tally
from client.guards import prove, require_apart
from client.inputs import Fixed, Inputs
from client.nets import CRITIC, critic_range, net_of
from client.plan import Plan
from client.strict import require
from client.told import Told
from fer_models.critic import FairLoss, WithCritic
from fer_models.embedding import last_layer
from fer_models.features import TwoStage
from fer_models.flat import FlatModel
from fer_models.losses import Loss, build_loss, known_only
from fer_models.memory import keep_freed_memory
from fer_models.mixing import MIXING, mixed_losses
from fer_models.penalties import adareg_gradient
from fer_models.samples import Samples
from fer_models.terms import Terms, WithTerms, with_terms
from fer_models.transforms import augment


class Workbench:
    """One net and its flat buffers, shared by all sites that one process serves.

    Parameters
    ----------
    plan : what is trained.
    device : where.

    Attributes
    ----------
    apart : where a critic's numbers are in the flat vector, empty without one.
    fair : what the site that trains adds to its pictures for fair training, None for nothing.

    Raises
    ------
    ModelError : there is no such net.
    PrivacyError : the plan is private and the net has no sound per-sample gradients.
    """

    def __init__(self, plan: Plan, device: torch.device) -> None:
        keep_freed_memory()
        self.plan = plan
        self.device = device
        self.flat = FlatModel(net_of(plan).to(device))
        self.flat.module.train()
        self.apart = critic_range(self.flat)
        self._fixed = self._fix()
        # Until sites have counted; uneven, so that the trial sees a prior at work.
        self._prior = tuple(float(place) for place in range(1, len(plan.labels) + 1))
        self._partial = False
        module = self.flat.module
        self._terms = module.terms if isinstance(module, WithTerms) else None
        self.loss = loss_of(plan, self._prior, terms=self._terms)
        self._penalised = self._head() if plan.local.has_penalty else None
        self.fair: FairRound | None = None
        self.gradients = None if plan.privacy is None else self._prove(plan.privacy.allow_slow)

    def _fix(self) -> Fixed | None:
        module, spec = self.flat.module, self.plan.model
        if not isinstance(module, TwoStage) or not module.keeps_features():
            return None
        with torch.no_grad():
            made_up = torch.zeros(1, spec.channels, spec.size, spec.size, device=self.device)
            return Fixed(module, self.device, module.features(made_up).shape[1])

    def _head(self) -> tuple[torch.Tensor, slice]:
        """Return the last layer's weights, and where they lie in the flat vector."""
        weight = last_layer(self.flat.module, self.plan.model).weight
        name = next(name for name, own in self.flat.module.named_parameters() if own is weight)
        return weight, next(slice(slot.start, slot.stop) for slot in self.flat.slots if slot.name == name)

    @torch.no_grad()
    def penalise(self, gradient: torch.Tensor) -> None:
        """Add the gradient of a penalty on parameters to ``gradient`` (P,) in place; it sees no picture."""
        if self._penalised is not None:
            weight, own = self._penalised
            gradient[own].add_(adareg_gradient(weight, self.plan.local.strength).flatten())

    def load_(self, values: torch.Tensor) -> None:
        """Overwrite the weights with ``values`` (P + Q,); kept features are dropped where fixed layers change.

        Raises
        ------
        ModelError : the length or the dtype differs.
        """
        if self._fixed is None:
            self.flat.load_(values)
            if isinstance(self.flat.module, WithCritic):
                self.flat.module.freeze()
            return
        before = [p.clone() for p in self.flat.module.parameters() if not p.requires_grad]
        self.flat.load_(values)
        after = [p for p in self.flat.module.parameters() if not p.requires_grad]
        if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
            self._fixed = replace(self._fixed)

    def fixed(self, samples: Samples) -> Fixed | None:
        """Return the net where its features of a table's pictures stay the same and may be kept, else None."""
        return self._fixed if self._fixed is not None and self._fixed.fits(samples) else None

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the layers that learn are given of pictures (B, C, H, W): features, where others are fixed."""
        if self._fixed is None:
            return x
        with torch.no_grad():
            return self._fixed.net.features(x)

    @property
    def tally(self) -> Tally | None:
        """What counts how pictures fare, None where nothing does."""
        return None if self.fair is None else self.fair.tally

    def losses(self, x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the losses (B,) of pictures (B, C, H, W), or of their features, with targets (B, classes).

        In fair training targets hold what :class:`fer_models.critic.FairLoss` is given.
        """
        work = self.plan.local
        if work.loss in MIXING:
            return mixed_losses(work.loss, self.flat.module, self.loss, x, targets, work.strength)
        answers = self.flat.module(x)
        if self.tally is not None:
            self.tally(answers.detach()[:, : len(self.plan.labels)].argmax(1))
        return self.loss(answers, targets)

    def expect(self, told: Told, *, partial: bool) -> None:
        """Go by the public numbers of a round: shares of the classes, and the strength of a critic.

        Parameters
        ----------
        partial : some pictures' data sets do not know all classes (:attr:`fer_models.samples.Samples.known`). The loss
            looks for that only then, for a look at every batch would cost all others time.

        Raises
        ------
        ConfigError : not one positive share a class, or numbers for other groups.
        """
        prior = told.prior if self.plan.local.tells_prior else self._prior
        if (prior, partial) != (self._prior, self._partial):
            require(
                len(prior) == len(self.plan.labels),
                f"{len(prior)} shares for {len(self.plan.labels)} classes",
                "prior",
                "Run the same version of FedFER everywhere.",
            )
            self.loss = loss_of(self.plan, prior, terms=self._terms, partial=partial)
            self._prior, self._partial = prior, partial
        told.require_shape(len(self.plan.disclosed), len(self.plan.labels))
        if isinstance(self.loss, FairLoss):
            self.loss.strength = told.strength
        if isinstance(self.flat.module, WithCritic):
            self.flat.module.reversal = told.strength

    def _prove(self, allow_slow: bool) -> PrivateGradients:
        """Try net, loss and augmentation on made-up pictures, before any real one is looked at."""
        spec = self.plan.model
        form, generator = (3, spec.channels, spec.size, spec.size), torch.Generator().manual_seed(0)
        x = torch.randn(form, generator=generator).to(self.device, memory_format=torch.channels_last)
        targets = torch.rand(3, spec.classes, generator=generator).to(self.device)
        targets /= targets.sum(1, keepdim=True)
        if self.plan.fairness is not None:
            shown = torch.eye(3, len(self.plan.disclosed))  # a third group of none: undisclosed
            targets = torch.cat([targets, shown.to(targets), torch.ones(3, 2).to(targets)], 1)
        if self.plan.local.augment:
            varied = self.plan.local.augmentation
            require_apart(lambda given: augment(given, generator, varied), x, "the augmentation")
        gradients = PrivateGradients(
            self.flat.module, allow_slow=allow_slow, part_of=lambda name: int(name.startswith(CRITIC))
        )
        if isinstance(self.flat.module, WithCritic):
            self.flat.module.reversal = 1.0  # so that the trial sees it at work
        prove(gradients, self.losses, x, targets)
        if self._fixed is not None:  # then the book sees features, here as in training
            prove(gradients, self.losses, self.seen(x), targets)
        self.flat.zero_grad()
        return gradients


def loss_of(
    plan: Plan, prior: tuple[float, ...], *, terms: Terms | None = None, partial: bool = False
) -> Loss:
    """Return the plan's loss, with the plan's own shares of the classes or else with ``prior``.

    Parameters
    ----------
    terms : what stands beside the cross-entropy, where the loss looks at features.
    partial : leave the classes that a row does not know out of its softmax.

    Raises
    ------
    ConfigError : ``partial`` with a loss of more than logits and targets, or with one that smooths targets.
    """
    work, fairness = plan.local, plan.fairness
    if partial:
        work.require_known_classes()
    loss = build_loss(
        work.loss if work.of_logits else "cross_entropy",
        smoothing=work.smoothing,
        prior=(work.prior or prior) if work.needs_prior else None,
        tau=work.tau,
        focusing=work.focusing,
        strength=work.strength,
        similar=work.similar,
    )
    if terms is not None:
        loss = with_terms(terms, loss, len(plan.labels), work.strength)
    if partial:
        loss = known_only(loss)
    if fairness is None:
        return loss
    square = fairness.critic_loss == "square"
    return FairLoss(loss, len(plan.labels), len(plan.disclosed), fairness.adversary, square=square)


class Benches:
    """The net of this process, kept warm between messages; one plan at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._bench: Workbench | None = None
        self._inputs: Inputs | None = None

    def of(self, plan: Plan) -> Workbench:
        """Return the bench for a plan, built when the plan is new."""
        if self._bench is None or self._bench.plan != plan:
            self._bench = Workbench(plan, self.device)
        return self._bench

    def inputs(self, samples: Samples) -> Inputs:
        """Return what the net takes in of a table; one table at a time."""
        if self._inputs is None or self._inputs.samples is not samples:
            self._inputs = Inputs(samples, self.device)
        return self._inputs
