"""The parameters as Beam's pipeline options."""

from __future__ import annotations

from argparse import ArgumentParser

from apache_beam.options.pipeline_options import PipelineOptions

from etl_beam.parameters import PARAMETERS


class EtlOptions(PipelineOptions):
    """The options of `parameters.PARAMETERS`."""

    @classmethod
    def _add_argparse_args(cls, parser: ArgumentParser) -> None:
        # Beam parses options of all kinds at once, so what is required is checked afterwards.
        for parameter in PARAMETERS:
            parser.add_argument(f"--{parameter.name}", help=parameter.help)

    def checked(self) -> dict[str, str | None]:
        """Every parameter's value.

        Raises:
            UsageError: one is missing or malformed.
        """
        return {parameter.name: parameter.check(getattr(self, parameter.name)) for parameter in PARAMETERS}
