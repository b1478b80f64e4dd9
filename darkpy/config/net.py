"""``[net]``: its keys, and the checks that take several of them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from darkpy.config.cfg import Section
from darkpy.config.options import Options, option
from darkpy.errors import Problem

POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid", "random", "sgdr")

# Which keys each learning-rate policy reads; every other policy leaves them alone.
_READS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "step": ("step", "scale"),
    "steps": ("steps", "scales", "seq_scales"),
    "exp": ("gamma",),
    "poly": ("power",),
    "sigmoid": ("gamma", "step"),
    "random": ("power",),
    "sgdr": ("learning_rate_min", "sgdr_cycle", "sgdr_mult", "steps", "scales", "seq_scales"),
}
_NEEDS: dict[str, tuple[str, ...]] = {
    "step": ("step", "scale"),
    "steps": ("steps", "scales"),
    "exp": ("gamma",),
    "sigmoid": ("gamma", "step"),
}


@dataclass(frozen=True)
class NetOptions(Options):
    """The input, the training schedule and the augmentation of the network.

    The learning rate first grows for ``burn_in`` updates, then follows ``policy``. Names, defaults and meanings are
    Darknet's (parser.c, parse_net_options).
    """

    batch: int = option(1, minimum=1, help="pictures per update of the weights")
    subdivisions: int = option(
        1, minimum=1, help="parts a batch is computed in, to save memory; batch / subdivisions pictures at a time"
    )
    width: int = option(0, minimum=0, help="width of the input in pixels")
    height: int = option(0, minimum=0, help="height of the input in pixels")
    channels: int = option(0, minimum=0, help="channels of the input: 3 for colour, 1 for grey")
    inputs: int = option(
        lambda o: o.width * o.height * o.channels,
        default_text="width * height * channels",
        minimum=0,
        help="values of one input, for networks that do not see pictures",
    )
    time_steps: int = option(1, minimum=1, help="steps in time a recurrent network is unrolled for")

    max_batches: int = option(0, minimum=0, help="updates to train for")
    learning_rate: float = option(0.001, minimum=0, help="learning rate, before policy and burn_in")
    burn_in: int = option(
        0, minimum=0, help="updates in which the rate grows from 0: learning_rate * (update / burn_in) ** power"
    )
    power: float = option(4.0, minimum=0, help="exponent of burn_in, of policy=poly and of policy=random")
    policy: str = option("constant", choices=POLICIES, help="how the learning rate changes after burn_in")
    steps: tuple[int, ...] = option((), help="policy=steps: updates at which the rate is multiplied")
    scales: tuple[float, ...] = option((), minimum=0, help="policy=steps: the factor at each of the steps")
    seq_scales: tuple[float, ...] = option(
        (), minimum=0, help="policy=steps: factor on sequential_subdivisions at each of the steps"
    )
    step: int = option(
        1, minimum=1, help="policy=step: multiply the rate every so many updates; policy=sigmoid: where it has halved"
    )
    scale: float = option(1.0, minimum=0, help="policy=step: the factor")
    gamma: float = option(
        1.0, help="policy=exp: learning_rate * gamma ** update; policy=sigmoid: steepness, positive falls"
    )
    learning_rate_min: float = option(0.00001, minimum=0, help="policy=sgdr: rate at the end of a cycle")
    sgdr_cycle: int = option(same_as="max_batches", minimum=0, help="policy=sgdr: updates in the first cycle")
    sgdr_mult: int = option(2, minimum=1, help="policy=sgdr: each cycle is so many times longer than the one before")

    momentum: float = option(0.9, minimum=0, maximum=1, help="momentum of stochastic gradient descent")
    decay: float = option(0.0001, minimum=0, help="weight decay; weights only, not biases and batch normalisation")
    adam: bool = option(False, help="use Adam instead of stochastic gradient descent")
    B1: float = option(0.9, minimum=0, maximum=1, help="Adam: decay of the gradient's mean")
    B2: float = option(0.999, minimum=0, maximum=1, help="Adam: decay of the gradient's square")
    eps: float = option(0.000001, minimum=0, help="Adam: added to the root")
    ema_alpha: float = option(
        0.0, minimum=0, maximum=1, help="decay of a moving average of the weights, kept in the second half; 0 is none"
    )

    loss_scale: float = option(
        lambda o: None,
        default_text="found as it trains with fp16, else 1",
        minimum=1,
        help="factor on gradients of 16 bits (--amp), so that small ones do not become 0",
    )

    flip: bool = option(True, help="mirror pictures left to right, each with probability 1/2")
    hue: float = option(0.0, minimum=0, help="largest turn of the hue, either way, as a part of the full circle")
    saturation: float = option(1.0, minimum=0.01, help="largest factor on the saturation; its inverse is as likely")
    exposure: float = option(1.0, minimum=0.01, help="largest factor on the brightness; its inverse is as likely")
    angle: float = option(0.0, minimum=0, help="largest rotation in degrees (classifiers; detectors: rotate_boxes)")
    rotate_boxes: bool = option(
        False, help="detectors: turn pictures and boxes by up to angle, which does nothing there otherwise"
    )
    aspect: float = option(1.0, minimum=0.01, help="largest change of the aspect ratio (classifiers)")
    max_crop: int = option(
        lambda o: 2 * o.width,
        default_text="2 * width",
        minimum=0,
        help="largest shorter side before cropping (classifiers)",
    )
    min_crop: int = option(same_as="width", minimum=0, help="least shorter side before cropping (classifiers)")
    letter_box: bool = option(False, help="keep the aspect ratio of pictures and fill up the rest")
    resize_step: int = option(32, minimum=1, help="sizes of multi-scale training are multiples of this")
    mosaic: bool = option(False, help="join four pictures to one, in half of the batches")
    mosaic_bound: bool = option(False, help="keep the boxes of a mosaic inside their own quarter")
    mixup: int = option(
        0,
        minimum=0,
        maximum=4,
        help="1 blends two pictures, in half of the batches; 2, 3 and 4 mean cutmix, mosaic, and one of the two",
    )
    cutmix: bool = option(False, help="paste a part of one picture into another (classifiers)")
    close_mosaic: int = option(
        0, minimum=0, help="updates at the end of a detector's training without mosaic and mixup"
    )
    blur: int = option(
        0,
        minimum=0,
        help="a third of the pictures keeps only its objects sharp, another third is blurred by a window of this size; "
        "with 1 both thirds keep their objects sharp",
    )
    gaussian_noise: int = option(
        0, minimum=0, maximum=127, help="standard deviation of the noise, of 255, on half of the pictures"
    )
    label_smooth_eps: float = option(0.0, minimum=0, maximum=1, help="label smoothing (classifiers)")
    contrastive: bool = option(False, help="show each picture twice in a mini-batch, augmented differently")
    contrastive_jit_flip: bool = option(False, help="contrastive: jitter and flip each view on its own")
    contrastive_color: bool = option(False, help="contrastive: change the colours of each view on its own")
    track: bool = option(False, help="train on sequences: the pictures of the list are frames of a video")
    augment_speed: int = option(
        2, minimum=1, help="track: a frame of a sequence is at most so many pictures after the one before"
    )
    sequential_subdivisions: int = option(
        same_as="subdivisions",
        minimum=1,
        help="parts of the batch that begin new sequences; subdivisions / sequential_subdivisions follow each other",
    )
    max_chart_loss: float = option(20.0, minimum=0, help="top of the loss axis of the chart")

    ineffective: ClassVar[dict[str, str]] = {
        "try_fix_nan": "training stops at the first NaN and says where it is; see --on-nan rollback",
        "dynamic_minibatch": "the mini-batch stays batch / subdivisions at every size of multi-scale training",
        "optimized_memory": "memory is always planned; see darkpy net summary",
        "workspace_size_limit_MB": "the workspace is planned; see darkpy net summary",
        "use_cuda_graph": "it changes how a graphics card is driven, not what is computed",
        "show_receptive_field": "darkpy net summary always prints it",
        "attention": "it opens a window that shows what adversarial_lr= changes",
        "unsupervised": "classifiers are trained with labels",
        "seen": "Darknet does not read it either; the weights file keeps the count",
        "max_epochs": "Darknet does not read it either; max_batches ends the training",
        "random": "Darknet reads it in the head only; write it there",
        "max_ratio": "it belongs to another Darknet; use max_crop",
        "min_ratio": "it belongs to another Darknet; use min_crop",
        "center": "it belongs to another Darknet; crops are placed at random",
        "notruth": "it belongs to another Darknet",
        "clip": "it belongs to another Darknet; write clip= in the layers",
    }
    refused: ClassVar[dict[str, str]] = {
        "weights_reject_freq": "filters that resemble each other are not replaced by random ones; leave it out",
        "equidistant_point": "small gradients are not dropped; leave it out",
        "badlabels_rejection_percentage": "large gradients are not dropped; darkpy data check finds bad labels",
        "num_sigmas_reject_badlabels": "large gradients are not dropped; darkpy data check finds bad labels",
        "adversarial_lr": "pictures are not changed against the network; leave it out",
    }

    @property
    def mini_batch(self) -> int:
        """Pictures computed at a time."""
        return self.batch // self.subdivisions

    @property
    def mixing(self) -> int:
        """How pictures are mixed: 0 not, 1 mixup, 2 cutmix, 3 mosaic, 4 one of the last two (Darknet, net->mixup)."""
        if self.cutmix:
            return 4 if self.mosaic else 2
        return 3 if self.mosaic else self.mixup

    def sequence(self, iteration: int) -> int:
        """How many subdivisions of a batch make one sequence (Darknet, get_sequence_value)."""
        parts = self.sequential_subdivisions
        if self.track and self.policy in ("steps", "sgdr"):
            for step, scale in zip(self.steps, self.seq_scales):
                if step > iteration:
                    break
                parts = int(parts * scale)
        return self.subdivisions // min(max(parts, 1), self.subdivisions)


def check_net(
    options: NetOptions, section: Section, problems: list[Problem], warnings: list[Problem] | None = None
) -> None:
    """Check what takes several keys together: input, batch, schedule.

    ``warnings``, if given, receives the keys of a learning-rate policy that is not in use.
    """

    def problem(message: str, *keys: str) -> None:
        problems.append(Problem(section.where_of(*keys), f"[{section.name}] {message}"))

    _check_input(options, problem)
    _check_batch(options, problem)
    _check_schedule(options, section, problem)
    if warnings is not None:
        _warn_about_idle_schedule(options, section, warnings)


def _check_input(options: NetOptions, problem: Callable[..., None]) -> None:
    sides = {"width": options.width, "height": options.height, "channels": options.channels}
    missing = [name for name, value in sides.items() if not value]
    if missing and (len(missing) < 3 or not options.inputs):
        problem(f"needs {', '.join(missing)}: the size of the input (or inputs= alone)", *sides)
    elif not missing and options.inputs != options.width * options.height * options.channels:
        product = options.width * options.height * options.channels
        problem(f"inputs={options.inputs} is not width * height * channels = {product}; leave it out", "inputs")
    if options.min_crop > options.max_crop:
        problem(f"min_crop={options.min_crop} is greater than max_crop={options.max_crop}", "min_crop", "max_crop")


def _check_batch(options: NetOptions, problem: Callable[..., None]) -> None:
    batch, subdivisions = options.batch, options.subdivisions
    if batch % subdivisions:
        fits = [count for count in range(1, batch + 1) if batch % count == 0]
        nearest = min(fits, key=lambda count: (abs(count - subdivisions), -count))
        problem(
            f"batch={batch} cannot be divided into subdivisions={subdivisions} equal parts; nearest is "
            f"subdivisions={nearest}",
            "subdivisions",
        )
    elif options.contrastive and options.mini_batch < 2:
        problem(f"contrastive=1 needs batch={batch} to be at least twice subdivisions={subdivisions}", "contrastive")


def _check_schedule(options: NetOptions, section: Section, problem: Callable[..., None]) -> None:
    policy = options.policy
    for key in _NEEDS.get(policy, ()):
        if section.get(key) is None:
            problem(f"policy={policy} needs {key}=", "policy")
    if policy == "poly" and not options.max_batches:
        problem("policy=poly needs max_batches= greater than 0: the rate falls to 0 there", "max_batches", "policy")
    if policy == "sgdr" and not options.sgdr_cycle:
        problem("policy=sgdr needs sgdr_cycle= or max_batches= greater than 0", "sgdr_cycle", "max_batches", "policy")
    if policy in ("steps", "sgdr"):
        _check_steps(options, problem)


def _check_steps(options: NetOptions, problem: Callable[..., None]) -> None:
    steps = options.steps
    for key, values in (("scales", options.scales), ("seq_scales", options.seq_scales)):
        if steps and values and len(values) != len(steps):
            problem(f"{key} has {_count(values)}, steps has {_count(steps)}: they go in pairs", key)
    for earlier, later in pairwise(steps):
        if later <= earlier:
            problem(f"steps must grow: {later} comes after {earlier}", "steps")


def _count(values: tuple[object, ...]) -> str:
    return "1 value" if len(values) == 1 else f"{len(values)} values"


def _warn_about_idle_schedule(options: NetOptions, section: Section, warnings: list[Problem]) -> None:
    """A schedule that is written down and not followed is a mistake more often than not."""
    reads = _READS[options.policy]
    idle = {key for keys in _READS.values() for key in keys if key not in reads}
    if options.burn_in:
        idle.discard("power")
    for entry in section.entries:
        if entry.key in idle:
            message = f"[{section.name}] {entry.key} has no effect: policy={options.policy} does not read it"
            warnings.append(Problem(f"{section.file}:{entry.line}", message))
