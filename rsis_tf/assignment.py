"""Optimal assignment with numpy alone, for installations without SciPy (`pip install ".[cpu]"`)."""

from collections.abc import Iterator

import numpy as np


def assign(weights: np.ndarray) -> list[tuple[int, int]]:
    """Assigns rows to columns so that the sum of the weights is largest.

    A weight of 0 means that the pair is impossible. Rows and columns that share no possible pair are solved by
    themselves, so that thousands of objects with few neighbours each are quick.

    Args:
        weights: (n, m) float, at least 0.

    Returns:
        (row, column) pairs with a weight above 0, sorted; each row and column is in one pair at most.
    """
    pairs = []
    for rows, columns in _components(weights > 0):
        part = weights[np.ix_(rows, columns)]
        turned = part.shape[0] > part.shape[1]
        for row, column in _solve(-(part.T if turned else part)):
            if turned:
                row, column = column, row
            if part[row, column] > 0:
                pairs.append((int(rows[row]), int(columns[column])))
    return sorted(pairs)


def _components(possible: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields rows and columns of the connected parts of the graph whose edges are the possible pairs."""
    free = np.logical_or.reduce(possible, axis=1)  # (n,)
    for first in range(len(possible)):
        if not free[first]:
            continue
        rows = np.zeros(len(possible), bool)
        rows[first] = True
        while True:
            columns = np.logical_or.reduce(possible[rows], axis=0)  # (m,)
            grown = np.logical_or.reduce(possible[:, columns], axis=1)  # (n,)
            if np.array_equal(grown, rows):
                break
            rows = grown
        free &= ~rows
        yield np.flatnonzero(rows), np.flatnonzero(columns)


def _solve(cost: np.ndarray) -> list[tuple[int, int]]:
    """Returns a column for each row with the smallest total cost: shortest augmenting paths (Jonker and Volgenant).

    Args:
        cost: (n, m) float, n <= m.
    """
    n, m = cost.shape
    rows_price, columns_price = np.zeros(n), np.zeros(m)
    owner = np.full(m, -1)  # row of each column
    for new in range(n):
        distance, previous = np.full(m, np.inf), np.full(m, -1)
        done = np.zeros(m, bool)
        row, reached, column = new, 0.0, -1
        while row >= 0:
            reduced = reached + cost[row] - rows_price[row] - columns_price
            shorter = ~done & (reduced < distance)
            distance[shorter], previous[shorter] = reduced[shorter], column
            column = int(np.argmin(np.where(done, np.inf, distance)))
            reached = float(distance[column])
            done[column] = True
            row = int(owner[column])
        # The prices make the columns on the path as cheap as their new rows need.
        visited = np.flatnonzero(done & (owner >= 0))
        rows_price[owner[visited]] += reached - distance[visited]
        rows_price[new] += reached
        columns_price[done] -= reached - distance[done]
        while column >= 0:
            before = int(previous[column])
            owner[column] = owner[before] if before >= 0 else new
            column = before
    return [(int(row), column) for column, row in enumerate(owner) if row >= 0]
