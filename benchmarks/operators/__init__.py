"""Fault operators: each puts one fault into a healthy program. Every module of this package is found by itself."""

from benchmarks.operators.base import Mutant, Operator, Operators, mutants, operator, operators

__all__ = ["Mutant", "Operator", "Operators", "mutants", "operator", "operators"]
