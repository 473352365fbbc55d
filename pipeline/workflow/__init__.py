"""The step table compiled to Google Cloud Workflows."""

from pipeline.workflow.compiler import CompiledWorkflow, compile_workflow, escape_for_terraform
from pipeline.workflow.targets import Dataflow, Targets, Training, service_of

__all__ = [
    "CompiledWorkflow",
    "Dataflow",
    "Targets",
    "Training",
    "compile_workflow",
    "escape_for_terraform",
    "service_of",
]
