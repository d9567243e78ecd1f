"""JSON schemas compiled to plans: fixed text and slots, each slot with the language that may fill it."""

from inference.diffusion.structured.schema.errors import SchemaError, ValueNotEncodableError
from inference.diffusion.structured.schema.plan import Plan
from inference.diffusion.structured.schema.walk import compile_plan

__all__ = ["Plan", "SchemaError", "ValueNotEncodableError", "compile_plan"]
