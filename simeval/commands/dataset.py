"""`simeval dataset`: make banks of grasps that hold."""

import typer

app = typer.Typer(help="Make data sets of grasps.", no_args_is_help=True)


@app.callback()
def _dataset() -> None:
    """Make data sets of grasps."""
