"""The commands and their options. What they do is in the modules beside; those are imported when they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from streamseg.cli.console import EXIT_USAGE, Commands, say
from streamseg.cli.prompt_options import PROMPT_OPTIONS_KEY, PromptCommand

app = typer.Typer(
    cls=Commands,
    name="streamseg",
    help="Click an object once, get its mask on every frame: a segmentation service around SAM 2.",
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME", help="auto, nano or a SAM 2 model; default: auto.", show_default=False),
]
Checkpoint = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="FILE", help="Weights of your own instead of a download.")
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps; default: auto."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A settings file (YAML).")]
Token = Annotated[
    str | None,
    typer.Option("--token", envvar="STREAMSEG_TOKEN", show_envvar=True, metavar="TOKEN", help="The server's token."),
]

PROMPTS = "What to segment (pixels of the upright picture)"
FRAMES = "Videos: which frames"
OUTPUT = "Output"
MASKS = "Masks"


def _version(wanted: bool) -> None:
    if wanted:
        from streamseg import __version__

        say(f"streamseg {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def streamseg(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version  # its callback has dealt with it
    if context.invoked_subcommand is None:
        say(context.get_help())
        raise typer.Exit(EXIT_USAGE)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for a free one; default: 8000.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="What clients must present; better set as STREAMSEG_TOKEN."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", metavar="", help="Listen beyond this machine without a token.")
    ] = False,
    model: ModelName = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    config: Config = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error; default: info.")
    ] = None,
) -> None:
    """Start the service and its web page."""
    from streamseg.cli.serve import run_serve

    flags = {"host": host, "port": port, "token": token, "insecure": insecure or None, "log_level": log_level}
    run_serve(config, {key: value for key, value in flags.items() if value is not None}, model, checkpoint, device)


@app.command(cls=PromptCommand)
def segment(
    context: typer.Context,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...",
            help="Pictures, videos, folders of them (without their subfolders), and addresses of network cameras.",
        ),
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y[,LABEL]", help="A point of the object; LABEL 0: one beside it.", rich_help_panel=PROMPTS
        ),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="X1,Y1,X2,Y2", help="A box around it.", rich_help_panel=PROMPTS)
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="A picture of it: bright pixels are the object.", rich_help_panel=PROMPTS),
    ] = None,
    object_id: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="ID", help="The prompts after it are about object ID.", rich_help_panel=PROMPTS
        ),
    ] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            help="The prompts after it were made on frame N of the video, from 0 on; default: 0.",
            rich_help_panel=PROMPTS,
        ),
    ] = None,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", metavar="", help="Take the sample pictures, with prompts of their own.", rich_help_panel=PROMPTS
        ),
    ] = False,
    sample_clip: Annotated[
        bool,
        typer.Option(
            "--sample-clip",
            metavar="",
            help="Take the sample video, with a prompt of its own.",
            rich_help_panel=PROMPTS,
        ),
    ] = False,
    every: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Segment every Nth frame; default: 1.", rich_help_panel=FRAMES),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(metavar="F", help="Segment at most F frames a second.", rich_help_panel=FRAMES),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From here on: seconds, or M:SS, or H:MM:SS.", rich_help_panel=FRAMES),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to here, likewise.", rich_help_panel=FRAMES)
    ] = None,
    hold: Annotated[
        bool,
        typer.Option(
            "--hold",
            metavar="",
            help="Keep the frames between, with the masks of the last segmented one.",
            rich_help_panel=FRAMES,
        ),
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder for the results, one folder in it per input, without what a former run left in that.",
            rich_help_panel=OUTPUT,
        ),
    ] = Path("out"),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="LIST",
            help="Of overlay, rle, png, polygons, and of pictures also cutout (the objects on transparent ground).",
            rich_help_panel=OUTPUT,
        ),
    ] = "overlay,rle",
    container: Annotated[
        Literal["mp4", "webm"], typer.Option(help="Kind of overlay video.", rich_help_panel=OUTPUT)
    ] = "mp4",
    quality: Annotated[
        int, typer.Option(metavar="1..100", min=1, max=100, help="Of the overlay video.", rich_help_panel=OUTPUT)
    ] = 75,
    max_side: Annotated[
        int | None,
        typer.Option(
            metavar="PX", min=16, help="Longest side of the overlay video; default: as it was.", rich_help_panel=OUTPUT
        ),
    ] = None,
    mode: Annotated[
        Literal["image", "track"],
        typer.Option(
            help="Videos: follow objects by the video model (track), or take each frame by itself.",
            rich_help_panel=MASKS,
        ),
    ] = "track",
    backwards: Annotated[
        bool,
        typer.Option(
            "--backwards",
            metavar="",
            help="Videos: also follow each object from its first prompt back to the start.",
            rich_help_panel=MASKS,
        ),
    ] = False,
    multimask: Annotated[
        bool,
        typer.Option("--multimask", metavar="", help="Pictures: also the other readings.", rich_help_panel=MASKS),
    ] = False,
    no_second_look: Annotated[
        bool,
        typer.Option(
            "--no-second-look",
            metavar="",
            help="Pictures: without nano's second look; faster.",
            rich_help_panel=MASKS,
        ),
    ] = False,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="0..1", min=0, max=1, help="Masks below this score are left empty.", rich_help_panel=MASKS
        ),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="LO,HI", help="16-bit pictures: values that become black and white.", rich_help_panel=MASKS
        ),
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(metavar="PX", min=0, help="Remove smaller parts; 0: none.", rich_help_panel=MASKS)
    ] = None,
    max_hole: Annotated[
        int | None, typer.Option(metavar="PX", min=0, help="Fill holes up to this; 0: none.", rich_help_panel=MASKS)
    ] = None,
    close: Annotated[
        int | None, typer.Option(metavar="PX", min=0, help="Closing radius; 0: none.", rich_help_panel=MASKS)
    ] = None,
    smooth: Annotated[
        int | None, typer.Option(metavar="PX", min=0, help="Edge smoothing radius; 0: none.", rich_help_panel=MASKS)
    ] = None,
    largest_only: Annotated[
        bool, typer.Option("--largest-only", metavar="", help="Keep the largest part only.", rich_help_panel=MASKS)
    ] = False,
    no_refine: Annotated[
        bool, typer.Option("--no-refine", metavar="", help="Masks as the model gives them.", rich_help_panel=MASKS)
    ] = False,
    model: ModelName = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    config: Config = None,
    untrusted: Annotated[
        bool,
        typer.Option(
            "--untrusted",
            metavar="",
            help="For strangers' videos: decode them in a process of its own, within the limits of the settings.",
        ),
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Let a running server do it, instead of loading a model here."),
    ] = None,
    token: Token = None,
) -> None:
    """Segment pictures and videos: masks and overlays of what is pointed at, the same prompts on each.

    Ctrl-C while a video is in work finishes its files as far as they are; twice quits at once. An address (rtsp://,
    rtsps://, http://, https://) is a live stream, which goes on until --end or Ctrl-C.

    Exit status: 0 all done, 1 some inputs failed, 2 wrong usage or nothing done, 130 interrupted.
    """
    from streamseg.cli.job import Job
    from streamseg.cli.segment import run_segment

    job = Job.from_options(
        inputs=inputs or [],
        prompt_options=context.meta[PROMPT_OPTIONS_KEY],
        sample=sample,
        sample_clip=sample_clip,
        out=out,
        formats=formats,
        mode=mode,
        backwards=backwards,
        multimask=multimask,
        second_look=not no_second_look,
        score_threshold=score_threshold,
        window=window,
        refine={
            "min_area_px": min_area,
            "max_hole_px": max_hole,
            "close_px": close,
            "smooth_px": smooth,
            "largest_only": largest_only or None,
        },
        no_refine=no_refine,
        sampling={"every": every, "fps": fps, "start_s": start, "end_s": end, "hold": hold},
        video={"container": container, "quality": quality, "max_side_px": max_side},
        untrusted=untrusted,
    )
    del point, box, mask, object_id, frame  # read in their order from the context
    raise typer.Exit(
        run_segment(job, config=config, model=model, checkpoint=checkpoint, device=device, server=server, token=token)
    )


@app.command()
def models() -> None:
    """List the known models."""
    from streamseg.cli.models import run_models

    run_models()


@app.command()
def bench(
    model: ModelName = None,
    checkpoint: Checkpoint = None,
    device: Device = None,
    repeat: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Runs of which the median is taken.")] = 10,
) -> None:
    """Measure the model on this machine: milliseconds for a picture and for its objects."""
    from streamseg.cli.bench import run_bench

    run_bench(model, checkpoint, device, repeat)
