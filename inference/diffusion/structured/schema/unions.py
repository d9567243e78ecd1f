"""`anyOf` and `oneOf`: flattened to options, and the property that tells the objects among them apart."""

from __future__ import annotations

from dataclasses import dataclass

from inference.diffusion.structured.schema.errors import SchemaError
from inference.diffusion.structured.schema.keywords import MAX_SLOT_TOKENS, refuse_unknown
from inference.diffusion.structured.schema.references import Place, Resolver
from inference.diffusion.structured.schema.scalars import Values, alternatives
from inference.diffusion.structured.schema.values import Scalar, json_text, same_value


@dataclass(frozen=True, slots=True)
class Options:
    """What a subschema allows, once references and nested unions are followed.

    Attributes:
        at: JSON pointer of the subschema.
        scalars: options of scalar types; a null beside composites is in `has_null` instead.
        composites: options of type object or array.
        exclusive: exactly one option must allow the value (oneOf).
        discriminator: property named by the `discriminator` keyword.
        num_tokens: `x-slot-tokens`.
    """

    at: str
    scalars: tuple[Place, ...]
    composites: tuple[Place, ...]
    has_null: bool
    exclusive: bool
    discriminator: str | None
    num_tokens: int | None


def options_of(place: Place, resolver: Resolver) -> Options:
    """Follow references and nested unions of `place`.

    Raises:
        SchemaError: a union stands beside other constraints, or oneOf is nested in anyOf.
    """
    place = resolver.follow(place)
    keyword = next((word for word in ("oneOf", "anyOf") if word in place.schema), None)
    if keyword is None:
        return _single(place)
    refuse_unknown(place.schema, {keyword, "discriminator", "x-slot-tokens"}, place.at)
    nested = [
        options_of(place.inside(option, keyword, str(i)), resolver)
        for i, option in enumerate(place.schema[keyword])
    ]
    if not nested:
        raise SchemaError(place.at, keyword, "give at least one option")
    exclusive = keyword == "oneOf" and len(nested) > 1
    if any(option.exclusive and option.scalars for option in nested) and len(nested) > 1:
        raise SchemaError(place.at, keyword, "flatten the oneOf inside it")
    composites = tuple(composite for option in nested for composite in option.composites)
    scalars = [scalar for option in nested for scalar in option.scalars]
    nulls = [scalar for scalar in scalars if composites and _is_null(scalar)]
    if keyword == "oneOf" and sum(option.has_null for option in nested) + len(nulls) > 1:
        raise SchemaError(place.at, keyword, "allow null in one option only")
    tag = place.schema.get("discriminator", {}).get("propertyName")
    tags = [tag, *(option.discriminator for option in nested)]
    lengths = [_num_tokens(place), *(option.num_tokens for option in nested)]
    return Options(
        place.at,
        tuple(scalar for scalar in scalars if scalar not in nulls),
        composites,
        bool(nulls) or any(option.has_null for option in nested),
        exclusive or any(option.exclusive for option in nested),
        next((name for name in tags if name is not None), None),
        next((length for length in lengths if length is not None), None),
    )


def _single(place: Place) -> Options:
    types = place.schema.get("type", [])
    names = [types] if isinstance(types, str) else list(types)
    composite = next((name for name in names if name in ("object", "array")), None)
    if composite is None or "enum" in place.schema or "const" in place.schema:
        return Options(place.at, (place,), (), False, False, None, _num_tokens(place))
    others = [name for name in names if name not in (composite, "null")]
    if others:
        raise SchemaError(place.at, "type", f"an {composite} can be mixed with null only")
    typed = Place({**place.schema, "type": composite}, place.at, place.trail)
    return Options(place.at, (), (typed,), "null" in names, False, None, None)


def _is_null(place: Place) -> bool:
    return alternatives(place.schema, place.at) == [Values((None,))]


def _num_tokens(place: Place) -> int | None:
    length = place.schema.get("x-slot-tokens")
    if length is not None and (not isinstance(length, int) or not 1 <= length <= MAX_SLOT_TOKENS):
        instead = f"a slot has 1 to {MAX_SLOT_TOKENS} tokens"
        raise SchemaError(place.at, "x-slot-tokens", instead)
    return length


@dataclass(frozen=True, slots=True)
class Tag:
    """The property that names the variant of a discriminated union: its values per variant."""

    key: str
    values: tuple[tuple[Scalar, ...], ...]

    @property
    def quoted(self) -> bool:
        """Whether all values are strings, so that their quotes are fixed text."""
        return all(isinstance(value, str) for values in self.values for value in values)

    def text(self, value: Scalar) -> str:
        """The text of `value` in the tag's slot."""
        return json_text(value)[1:-1] if self.quoted else json_text(value)


def find_tag(options: Options, resolver: Resolver) -> Tag:
    """The property that every object of `options` fixes to values of its own.

    Raises:
        SchemaError: there is none.
    """
    first, *_ = options.composites
    if any(variant.schema["type"] != "object" for variant in options.composites):
        raise SchemaError(options.at, "anyOf", "an array can be mixed with null only")
    candidates = (
        [options.discriminator] if options.discriminator else first.schema.get("properties", {})
    )
    for key in candidates:
        values = [_tag_values(variant, key, resolver) for variant in options.composites]
        flat = [value for group in values for value in group]
        distinct = all(not same_value(v, w) for i, v in enumerate(flat) for w in flat[:i])
        if all(values) and distinct:
            return Tag(key, tuple(values))
    instead = "give every object a property with a const of its own, and name it as discriminator"
    raise SchemaError(options.at, "oneOf" if options.exclusive else "anyOf", instead)


def _tag_values(variant: Place, key: str, resolver: Resolver) -> tuple[Scalar, ...]:
    properties = variant.schema.get("properties", {})
    if key not in properties:
        return ()
    place = resolver.follow(variant.inside(properties[key], "properties", key))
    if "const" not in place.schema and "enum" not in place.schema:
        return ()
    (option,) = alternatives(place.schema, place.at)
    return option.values if isinstance(option, Values) else ()
