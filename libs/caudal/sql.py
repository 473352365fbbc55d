"""The subset of SQL that BigQuery and DuckDB run alike, and the way from the one to the other.

Queries are written in BigQuery's dialect. `to_duckdb` refuses every construct that is not listed here: some of
the others fail in DuckDB, and worse, some give other figures without a word (docs/sql-subset.md names them).
A construct joins the list together with a test that shows both warehouses agree on it.
"""

from __future__ import annotations

from functools import lru_cache

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import ParseError, UnsupportedError

from caudal.errors import UnsupportedSql

STATEMENTS: frozenset[type[exp.Expr]] = frozenset({exp.Select, exp.Union})

_STRUCTURE = {
    "Alias",
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
    "Not",
    "Null",
    "Order",
    "Ordered",
    "Paren",
    "Parameter",
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
    "Neg",
    "Between",
    "ParameterizedAgg",
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
    "Div",
    "Exists",
    "Greatest",
    "If",
    "Lag",
    "Least",
    "Lead",
    "Length",
    "Ln",
    "Lower",
    "Max",
    "Min",
    "Mul",
    "Nullif",
    "Or",
    "RowNumber",
    "SafeDivide",
    "Sqrt",
    "Sub",
    "Sum",
    "Upper",
    "Floor",
    "Rank",
}
ALLOWED: frozenset[str] = frozenset(_STRUCTURE | _FUNCTIONS)


@lru_cache(maxsize=512)
def to_duckdb(query: str) -> str:
    """Carries one query from the subset to DuckDB.

    Raises:
        UnsupportedSql: it does not parse, is no query, or uses something outside the subset.
    """
    try:
        statements = sqlglot.parse(query, read="bigquery")
    except ParseError as error:
        raise UnsupportedSql(f"the query does not parse: {error}", mend="correct it") from error
    tree = statements[0] if len(statements) == 1 else None
    if tree is None or type(tree) not in STATEMENTS:
        raise UnsupportedSql("only single SELECT queries are run through the port", mend="write one SELECT")
    refused = sorted({type(node).__name__ for node in tree.walk()} - ALLOWED)
    if refused:
        raise UnsupportedSql(
            f"the query uses {', '.join(refused)}, which is outside the common subset",
            where=" ".join(query.split())[:120],
            mend="rewrite it with what docs/sql-subset.md lists",
        )
    try:
        return tree.transform(_exact).sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise UnsupportedSql(f"the query can't be carried to DuckDB: {error}", mend="rewrite it") from error


def _exact(node: exp.Expr) -> exp.Expr:
    """Types that a plain translation would narrow: NUMERIC is DECIMAL(38, 9) in BigQuery."""
    if isinstance(node, exp.DataType) and node.this in (
        exp.DataType.Type.DECIMAL,
        exp.DataType.Type.BIGDECIMAL,
    ):
        return exp.DataType.build("DECIMAL(38, 9)", dialect="duckdb")
    return node
