from __future__ import annotations

import pytest

from darkpy.config.cfg import parse_cfg, read_cfg
from darkpy.config.net import POLICIES, NetOptions, check_net
from darkpy.config.options import parse_options

INPUT = "width=32\nheight=32\nchannels=3\n"


def parse(text: str):
    """Options of ``[net]`` with these lines after the size of the input, problems and warnings."""
    section = parse_cfg("[net]\n" + text, "x.cfg").net
    problems, warnings = [], []
    options = parse_options(NetOptions, section, problems, warnings)
    if options is not None:
        check_net(options, section, problems, warnings)
    return options, list(map(str, problems)), list(map(str, warnings))


def test_defaults_are_those_of_darknet():
    options, problems, warnings = parse(INPUT)
    assert (problems, warnings) == ([], [])
    assert (options.batch, options.subdivisions, options.mini_batch, options.time_steps) == (1, 1, 1, 1)
    assert (options.momentum, options.decay, options.learning_rate) == (0.9, 0.0001, 0.001)
    assert (options.policy, options.burn_in, options.power, options.max_batches) == ("constant", 0, 4.0, 0)
    assert (options.adam, options.B1, options.B2, options.eps) == (False, 0.9, 0.999, 0.000001)
    assert (options.flip, options.hue, options.saturation, options.exposure) == (True, 0.0, 1.0, 1.0)
    assert (options.angle, options.aspect, options.resize_step, options.letter_box) == (0.0, 1.0, 32, False)
    assert (options.inputs, options.max_crop, options.min_crop) == (3072, 64, 32)
    assert (options.sgdr_cycle, options.sgdr_mult, options.learning_rate_min) == (0, 2, 0.00001)
    assert (options.sequential_subdivisions, options.augment_speed, options.max_chart_loss) == (1, 2, 20.0)


def test_inputs_alone_describe_a_network_without_pictures():
    options, problems, _ = parse("inputs=256")
    assert (options.inputs, options.width, problems) == (256, 0, [])


def test_mini_batch():
    assert parse(INPUT + "batch=64\nsubdivisions=16")[0].mini_batch == 4


@pytest.mark.parametrize(
    "text, expected",
    [
        ("batch=1", "x.cfg:1  [net] needs width, height, channels: the size of the input (or inputs= alone)"),
        ("width=8\nheight=8", "x.cfg:2  [net] needs channels: the size of the input (or inputs= alone)"),
        (
            INPUT + "inputs=100",
            "x.cfg:5  [net] inputs=100 is not width * height * channels = 3072; leave it out",
        ),
        (INPUT + "min_crop=99", "x.cfg:5  [net] min_crop=99 is greater than max_crop=64"),
        (INPUT + "max_crop=9", "x.cfg:5  [net] min_crop=32 is greater than max_crop=9"),
        (
            INPUT + "batch=64\nsubdivisions=10",
            "x.cfg:6  [net] batch=64 cannot be divided into subdivisions=10 equal parts; nearest is subdivisions=8",
        ),
        (
            INPUT + "batch=2\nsubdivisions=8",
            "x.cfg:6  [net] batch=2 cannot be divided into subdivisions=8 equal parts; nearest is subdivisions=2",
        ),
        (
            INPUT + "batch=2\nsubdivisions=2\ncontrastive=1",
            "x.cfg:7  [net] contrastive=1 needs batch=2 to be at least twice subdivisions=2",
        ),
        (
            INPUT + "policy=stairs",
            "x.cfg:5  [net] policy=stairs: expected one of constant, step, steps, exp, poly, sigmoid, random, sgdr",
        ),
        (INPUT + "policy=steps\nscales=1", "x.cfg:5  [net] policy=steps needs steps="),
        (INPUT + "policy=steps\nsteps=1", "x.cfg:5  [net] policy=steps needs scales="),
        (INPUT + "policy=step\nscale=.1", "x.cfg:5  [net] policy=step needs step="),
        (INPUT + "policy=step\nstep=5", "x.cfg:5  [net] policy=step needs scale="),
        (INPUT + "policy=exp", "x.cfg:5  [net] policy=exp needs gamma="),
        (INPUT + "policy=sigmoid\ngamma=.1", "x.cfg:5  [net] policy=sigmoid needs step="),
        (
            INPUT + "policy=poly",
            "x.cfg:5  [net] policy=poly needs max_batches= greater than 0: the rate falls to 0 there",
        ),
        (INPUT + "policy=sgdr", "x.cfg:5  [net] policy=sgdr needs sgdr_cycle= or max_batches= greater than 0"),
        (
            INPUT + "policy=steps\nsteps=1,2\nscales=.1",
            "x.cfg:7  [net] scales has 1 value, steps has 2 values: they go in pairs",
        ),
        (INPUT + "policy=steps\nsteps=9,7\nscales=1,1", "x.cfg:6  [net] steps must grow: 7 comes after 9"),
        (
            INPUT + "gaussian_noise=128",
            "x.cfg:5  [net] gaussian_noise=128: it is greater than 127, the largest value allowed",
        ),
        (INPUT + "subdivision=8", "x.cfg:5  [net] has no option 'subdivision'; did you mean 'subdivisions'?"),
        (INPUT + "batch=0", "x.cfg:5  [net] batch=0: it is less than 1, the smallest value allowed"),
    ],
)
def test_problems(text, expected):
    assert parse(text)[1] == [expected]


@pytest.mark.parametrize(
    "text, mixing",
    [("", 0), ("mixup=1", 1), ("mixup=3", 3), ("mixup=1\nmosaic=1", 3), ("cutmix=1", 2), ("mosaic=1\ncutmix=1", 4)],
)
def test_mixing_is_that_of_darknet(text, mixing):
    assert parse(INPUT + text)[0].mixing == mixing


def test_sequences_of_subdivisions():
    sequence = "batch=8\nsubdivisions=8\n"
    assert parse(INPUT + sequence)[0].sequence(0) == 1
    assert parse(INPUT + sequence + "sequential_subdivisions=2")[0].sequence(0) == 4
    assert parse(INPUT + sequence + "sequential_subdivisions=3")[0].sequence(0) == 2
    assert parse(INPUT + sequence + "sequential_subdivisions=16")[0].sequence(0) == 1
    growing = sequence + "policy=steps\nsteps=10,20\nscales=1,1\nseq_scales=.5,.1\n"
    options = parse(INPUT + growing + "track=1")[0]
    assert [options.sequence(iteration) for iteration in (0, 9, 10, 19, 20)] == [1, 1, 2, 2, 8]
    assert parse(INPUT + growing)[0].sequence(50) == 1


@pytest.mark.parametrize(
    "key", ["weights_reject_freq", "equidistant_point", "badlabels_rejection_percentage", "adversarial_lr"]
)
def test_what_would_train_differently_is_refused(key):
    (problem,) = parse(INPUT + f"{key}=1")[1]
    assert problem.startswith(f"x.cfg:5  [net] {key}=1 is not supported: ")
    assert parse(INPUT + f"{key}=0")[1] == []


def test_all_checks_at_once():
    assert len(parse("width=8\nbatch=3\nsubdivisions=2\npolicy=steps\nmin_crop=99")[1]) == 5


@pytest.mark.parametrize(
    "schedule",
    [
        "policy=constant",
        "policy=step\nstep=10\nscale=.5",
        "policy=steps\nsteps=-1,100,2000\nscales=.1,10,.1",
        "policy=exp\ngamma=.97",
        "policy=poly\nmax_batches=10",
        "policy=sigmoid\ngamma=.1\nstep=5",
        "policy=random\npower=2",
        "policy=sgdr\nmax_batches=10",
        "policy=sgdr\nsgdr_cycle=10\nsteps=1,2",
    ],
)
def test_each_policy_is_accepted_with_what_it_needs(schedule):
    assert schedule.split("\n")[0].removeprefix("policy=") in POLICIES
    assert parse(INPUT + schedule)[1:] == ([], [])


def test_a_schedule_that_is_not_followed_is_warned_about():
    assert parse(INPUT + "steps=5,6\nscales=.1,.1")[2] == [
        "x.cfg:5  [net] steps has no effect: policy=constant does not read it",
        "x.cfg:6  [net] scales has no effect: policy=constant does not read it",
    ]


def test_power_belongs_to_burn_in_too():
    assert parse(INPUT + "power=2\nburn_in=5")[2] == []
    assert parse(INPUT + "power=2")[2] == ["x.cfg:5  [net] power has no effect: policy=constant does not read it"]


def test_keys_without_effect_are_warned_about():
    _, problems, warnings = parse(INPUT + "seen=0\noptimized_memory=2")
    assert problems == []
    assert warnings == [
        "x.cfg:5  [net] seen= has no effect: Darknet does not read it either; the weights file keeps the count",
        "x.cfg:6  [net] optimized_memory= has no effect: memory is always planned; see darkpy net summary",
    ]


def test_published_files_are_accepted(shared):
    paths = [*(shared / "zoo").rglob("*.cfg"), *(shared / "golden_lr").glob("*.cfg")]
    assert len(paths) > 100
    for path in paths:
        section = read_cfg(path).net
        problems, warnings = [], []
        options = parse_options(NetOptions, section, problems, warnings)
        assert problems == []
        check_net(options, section, problems, warnings)
        assert problems == []
        assert all(warning.where.startswith(str(path)) for warning in warnings)


def test_the_first_batch_of_a_published_file_counts(shared):
    section = read_cfg(shared / "zoo" / "yolov3-openimages.cfg").net
    warnings = []
    options = parse_options(NetOptions, section, [], warnings)
    assert (options.batch, options.subdivisions) == (1, 1)
    assert len(warnings) == 2
