"""The subset of SQL that BigQuery and DuckDB run alike, and the way from the one to the other.

Queries are written in BigQuery's dialect. `to_duckdb` refuses every construct that is not listed here: some of
the others fail in DuckDB, and worse, some give other figures without a word (docs/sql-subset.md names them).
A construct joins the list together with a test that shows both warehouses agree on it.

Where agreement depends on the type of a value, which the text of a query does not tell, the translation asks
DuckDB's `typeof`: it is folded away while the query is planned, so a right query pays nothing, and a wrong one
fails with a message instead of giving another figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import sqlglot
from sqlglot import expressions as exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.errors import ParseError, TokenError, UnsupportedError

from caudal.errors import UnsupportedSql

STATEMENTS: frozenset[type[exp.Expr]] = frozenset({exp.Select, exp.Union})

_STRUCTURE = {
    "Alias",
    "Between",
    "Boolean",
    "CTE",
    "Column",
    "DataType",
    "Distinct",
    "EQ",
    "Except",
    "From",
    "GT",
    "GTE",
    "Group",
    "Having",
    "Identifier",
    "In",
    "Is",
    "Join",
    "LT",
    "LTE",
    "Limit",
    "Literal",
    "NEQ",
    "Neg",
    "Not",
    "Null",
    "Order",
    "Ordered",
    "Parameter",
    "Paren",
    "Qualify",
    "Select",
    "Star",
    "Subquery",
    "Table",
    "TableAlias",
    "Tuple",
    "Union",
    "Unnest",
    "Var",
    "Where",
    "Window",
    "WindowSpec",
    "With",
}
_FUNCTIONS = {
    "Abs",
    "Add",
    "And",
    "Case",
    "Cast",
    "Coalesce",
    "Count",
    "CountIf",
    "Exists",
    "Floor",
    "Greatest",
    "If",
    "Lag",
    "Lead",
    "Least",
    "Length",
    "Ln",
    "Max",
    "Min",
    "Mul",
    "Nullif",
    "Or",
    "Rank",
    "RowNumber",
    "SafeDivide",
    "Sqrt",
    "Sub",
    "Sum",
    "TimestampAdd",
    "TimestampSub",
}
ALLOWED: frozenset[str] = frozenset(_STRUCTURE | _FUNCTIONS)

TYPES: dict[exp.DType, str] = {
    exp.DType.BIGINT: "INT64",
    exp.DType.DOUBLE: "FLOAT64",
    exp.DType.DECIMAL: "NUMERIC",
    exp.DType.TEXT: "STRING",
    exp.DType.BOOLEAN: "BOOL",
    exp.DType.DATE: "DATE",
    exp.DType.TIMESTAMPTZ: "TIMESTAMP",
}
"""The types that a CAST may name, as BigQuery spells them."""


def quoted(name: str) -> str:
    """A name as port SQL writes it, so that it may be a reserved word such as `default`.

    Raises:
        UnsupportedSql: the name holds a backtick or a backslash.
    """
    if "`" in name or "\\" in name:
        raise UnsupportedSql(f"'{name}' can't be a name in SQL", mend="use letters, digits and underscores")
    return f"`{name}`"


@lru_cache(maxsize=512)
def to_duckdb(query: str) -> str:
    """Carries one query from the subset to DuckDB.

    Raises:
        UnsupportedSql: it does not parse, is no query, or uses something outside the subset.
    """
    tree: exp.Expr = parse(query)
    # Children first, so that what is built around them holds them in their final form.
    for node in reversed(list(tree.walk())):
        exact = _exact(node)
        if exact is not node:
            node.replace(exact)
    try:
        return tree.sql(dialect="duckdb", identify=True, unsupported_level=sqlglot.ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise UnsupportedSql(f"the query can't be carried to DuckDB: {error}", mend="rewrite it") from error


def parse(query: str) -> exp.Query:
    """The syntax tree of a query that keeps to the subset.

    Raises:
        UnsupportedSql: it does not parse, is no query, or uses something outside the subset.
    """
    try:
        statements = sqlglot.parse(query, read="bigquery")
    except (ParseError, TokenError) as error:
        raise UnsupportedSql(f"the query does not parse: {error}", mend="correct it") from error
    tree = statements[0] if len(statements) == 1 else None
    if type(tree) not in STATEMENTS:
        raise UnsupportedSql("only single SELECT queries are run through the port", mend="write one SELECT")
    assert isinstance(tree, exp.Query)
    nodes = {type(node).__name__ for node in tree.walk()} - ALLOWED
    refused = sorted(nodes) or sorted(set(_refused_forms(tree)))
    if refused:
        raise UnsupportedSql(
            f"the query uses {', '.join(refused)}, which is outside the common subset",
            where=" ".join(query.split())[:120],
            mend="rewrite it with what docs/sql-subset.md lists",
        )
    return tree


def _refused_forms(tree: exp.Query) -> Iterator[str]:
    """What hides behind a node that is allowed: forms that the two warehouses don't run alike."""
    names = [item.alias_or_name.lower() for item in tree.selects if not item.is_star]
    if not all(isinstance(item, (exp.Alias, exp.Column)) or item.is_star for item in tree.selects):
        yield "a result column without a name (say AS)"
    if len(set(names)) < len(names):
        yield "two result columns of one name"
    for node in tree.walk():
        said = node.args.get
        match node:
            case exp.Unnest() if said("offset"):
                yield "UNNEST WITH OFFSET"
            case exp.Unnest() if not all(isinstance(item, exp.Parameter) for item in node.expressions):
                yield "UNNEST of anything but a parameter"
            case exp.Parameter() if not isinstance(node.this, exp.Var):
                yield "a system variable"
            case exp.Join() if said("method") or said("kind") not in (None, "", "INNER", "OUTER", "CROSS"):
                yield f"{said('method') or said('kind')} JOIN"
            case exp.Identifier() if not said("quoted") and _is_reserved(node):
                yield f"the reserved word {node.name} as a name (put it in backticks)"
            case exp.Select() if said("kind"):
                yield f"SELECT AS {said('kind')}"
            case exp.Select() if said("qualify") and not (said("where") or said("group") or said("having")):
                yield "QUALIFY without WHERE, GROUP BY or HAVING (say WHERE TRUE)"
            case exp.SetOperation() if said("by_name") or said("side") or said("kind"):
                yield "BY NAME"
            case exp.Group() if said("all"):
                yield "GROUP BY ALL"
            case exp.With() if said("recursive"):
                yield "WITH RECURSIVE"
            case exp.Table() if said("catalog"):
                yield "a table of a named project"
            case exp.Count() if isinstance(node.this, exp.Distinct) and len(node.this.expressions) > 1:
                yield "COUNT(DISTINCT) of several columns"
            case exp.Max() | exp.Min() if said("expressions"):
                yield "MAX or MIN of several values"
            case exp.Order() | exp.Limit() if not isinstance(node.parent, (exp.Query, exp.Window)):
                yield "ORDER BY or LIMIT within an aggregate"
            case exp.WindowSpec() if said("exclude") or said("kind") not in ("ROWS", "RANGE"):
                yield "a window frame with GROUPS or EXCLUDE"
            case exp.DataType() if node.this not in TYPES or node.expressions:
                yield f"the type {node.sql(dialect='bigquery')}"


def _is_reserved(name: exp.Identifier) -> bool:
    """Whether BigQuery would not take a bare word for a name. Behind a dot it takes any."""
    holder = name.parent
    behind_a_dot = isinstance(holder, (exp.Column, exp.Table)) and holder.this is name and len(holder.parts) > 1
    return name.name.lower() in BigQuery.Generator.RESERVED_KEYWORDS and not behind_a_dot


def _exact(node: exp.Expr) -> exp.Expr:
    """What a plain translation would change without a word."""
    match node:
        case exp.Literal() if not node.is_string and not node.this.isdigit() and "e" not in node.this.lower():
            # 0.5 is a FLOAT64 in BigQuery and a DECIMAL in DuckDB.
            return exp.Literal(this=f"{node.this}e0", is_string=False)
        case exp.In() if isinstance(node.args.get("unnest"), exp.Unnest):
            # As a subquery it becomes a hash join; a search through a list would cost its length for each row.
            (values,) = node.args["unnest"].expressions
            return exp.In(
                this=node.this, query=exp.select(exp.func("unnest", values, dialect="duckdb")).subquery()
            )
        case exp.Cast():
            return _exact_cast(node)
        case exp.CountIf():
            # DuckDB's own gives null, not 0, where the condition is null or there are no rows.
            return exp.Count(this=exp.Case().when(node.this, exp.Literal.number(1)))
        case exp.SafeDivide():
            left, right = exp.paren(node.this), exp.paren(node.expression)
            quotient = exp.Case().when(right.neq(0), exp.Div(this=left, expression=right))
            return _refusing_decimals("SAFE_DIVIDE", quotient, left, right)
        case exp.Floor() | exp.Sqrt() | exp.Ln():
            return _refusing_decimals(type(node).__name__.upper(), node, node.this)
    return node


def _exact_cast(cast: exp.Cast) -> exp.Expr:
    value = cast.this
    if cast.to.is_type(exp.DType.DECIMAL):
        # DuckDB's own DECIMAL is narrower than BigQuery's NUMERIC.
        cast.set("to", exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb"))
    if isinstance(value, exp.Literal):
        return cast if value.is_string or not cast.to.is_type(exp.DType.BIGINT) else _rounded(value)
    kind = _typeof(value)
    if cast.to.is_type(exp.DType.TEXT):
        differs = exp.or_(_is_one_of(kind, "DOUBLE", "FLOAT", "TIMESTAMP WITH TIME ZONE"), _is_decimal(value))
        return exp.Case().when(differs, _error("the text of this type differs: cast it in Arrow")).else_(cast)
    refusal = _error("text is parsed in Arrow, not by CAST")
    checked = exp.Case().when(_is_one_of(kind.copy(), "VARCHAR"), refusal)
    if cast.to.is_type(exp.DType.BIGINT):
        checked = checked.when(_is_one_of(kind.copy(), "DOUBLE", "FLOAT"), _rounded(value))
    return checked.else_(cast)


def _rounded(value: exp.Expr) -> exp.Expr:
    """BigQuery rounds a half away from zero, DuckDB's own cast to the even neighbour."""
    double = exp.cast(value.copy(), "DOUBLE", dialect="duckdb")
    return exp.cast(exp.func("round", double, dialect="duckdb"), "BIGINT", dialect="duckdb")


def _refusing_decimals(function: str, result: exp.Expr, *values: exp.Expr) -> exp.Expr:
    """BigQuery's result is NUMERIC when an argument is, DuckDB's is always DOUBLE."""
    decimal = exp.or_(*(_is_decimal(value) for value in values))
    return exp.Case().when(decimal, _error(f"{function} of NUMERIC: cast it to FLOAT64 first")).else_(result)


def _typeof(value: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this="typeof", expressions=[value.copy()])


def _is_decimal(value: exp.Expr) -> exp.Expr:
    return exp.Like(this=_typeof(value), expression=exp.Literal.string("DECIMAL%"))


def _is_one_of(kind: exp.Expr, *names: str) -> exp.Expr:
    return exp.In(this=kind, expressions=[exp.Literal.string(name) for name in names])


def _error(message: str) -> exp.Expr:
    return exp.Anonymous(this="error", expressions=[exp.Literal.string(message)])
