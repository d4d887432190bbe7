"""The keywords of a strategy as options of its command: `threshold=0.01` as `--threshold 0.01`."""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

PLAIN = (bool, int, float, str)  # possible types of an option
KEPT = {"self", "name", "symbol", "tickers", "settings", "data", "sessions"}  # not parameters


@dataclass(frozen=True)
class Parameter:
    """A keyword of a strategy whose value is a number, a text, or a flag."""

    name: str
    kind: type
    default: Any

    @property
    def as_keyword(self) -> inspect.Parameter:
        """Return the parameter as a keyword for Typer; its value is None if it is not given."""
        shown = "" if self.default is None else f" Default: {self.default}."
        option = typer.Option(help=f"Parameter of the strategy.{shown}", show_default=False)
        annotation: Any = Annotated[self.kind | None, option]
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(self.name, kind, default=None, annotation=annotation)


def parameters_of(
    strategy: type, made: object = None, params: Mapping[str, Any] | None = None
) -> list[Parameter]:
    """Return the constructor keywords of `strategy` that can be given on a command line.

    `made` is an instance whose values are the defaults; `params` are its own keywords. Constructors
    are read from the class upwards, to the first one that does not pass on other keywords.
    """
    found: dict[str, Parameter] = {}
    for base in strategy.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        init = vars(base)["__init__"]
        keywords = inspect.signature(init).parameters.values()
        for keyword in keywords:
            kind = _kind(keyword, init)
            if keyword.name not in KEPT | found.keys() and kind is not None:
                default = getattr(made, keyword.name, keyword.default)
                found[keyword.name] = Parameter(keyword.name, kind, default)
        if all(keyword.kind is not keyword.VAR_KEYWORD for keyword in keywords):
            break
    for name, value in (params or {}).items():
        if type(value) in PLAIN and name.isidentifier():
            found.setdefault(name, Parameter(name, type(value), value))
    return list(found.values())


def with_parameters(
    command: Callable[..., None], parameters: Collection[Parameter]
) -> Callable[..., None]:
    """Return `command`, called with the values of the given parameters as its first argument."""
    signature = inspect.signature(command)
    _, *command_options = signature.parameters.values()
    taken = {other.name for other in command_options} | {"json", "help"}
    strategy_keywords = [parameter for parameter in parameters if parameter.name not in taken]

    def run(**given: Any) -> None:
        values = {option.name: given.pop(option.name) for option in strategy_keywords}
        command({name: value for name, value in values.items() if value is not None}, **given)

    keywords = [option.as_keyword for option in strategy_keywords]
    command_options = [
        other.replace(kind=inspect.Parameter.KEYWORD_ONLY) for other in command_options
    ]
    run.__signature__ = signature.replace(parameters=[*keywords, *command_options])  # type: ignore[attr-defined]
    run.__annotations__ = {
        option.name: option.annotation for option in (*keywords, *command_options)
    }
    run.__doc__ = command.__doc__
    return run


def _kind(keyword: inspect.Parameter, init: Callable[..., Any]) -> type | None:
    """Return the type of a keyword's values: as annotated, or else that of its default."""
    if keyword.default is keyword.empty:
        return None
    annotation = keyword.annotation
    if isinstance(annotation, str):  # because of `from __future__ import annotations`
        try:
            annotation = eval(annotation, getattr(init, "__globals__", {}))
        except Exception:  # imported only for type checkers
            return None
    if annotation is keyword.empty:
        annotation = type(keyword.default)
    choices = [choice for choice in _choices(annotation) if choice is not types.NoneType]
    return choices[0] if len(choices) == 1 and choices[0] in PLAIN else None


def _choices(annotation: Any) -> list[type]:
    """Return the types in a union, or those of the values of a Literal."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [kind for choice in typing.get_args(annotation) for kind in _choices(choice)]
    if typing.get_origin(annotation) is typing.Literal:
        return list({type(value) for value in typing.get_args(annotation)})
    return [annotation]
