"""Training data from CSV and Parquet files."""

from pathlib import Path
from typing import Any

import pandas as pd

from anomaly_detector.train.errors import DataError
from anomaly_detector.train.features import FeatureNotes
from anomaly_detector.train.frames import Missing, Place, to_table
from anomaly_detector.train.table import Table

PARQUET = (".parquet", ".pq")


def read_file(path: Path, *, notes: FeatureNotes, missing: Missing = "refuse") -> Table:
    """Read a CSV file (plain or compressed) or a Parquet file. Raises DataError in words that name row and column."""
    parquet = path.suffix in PARQUET
    frame = _frame(path, parquet=parquet)
    place = Place(source=str(path), first_row=1 if parquet else 2)
    return to_table(frame, place, notes=notes, missing=missing)


def _frame(path: Path, *, parquet: bool) -> Any:
    try:
        # Blank lines are kept, as empty cells, so that row numbers are line numbers.
        return pd.read_parquet(path) if parquet else pd.read_csv(path, skip_blank_lines=False, low_memory=False)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: empty; expected a header line and rows of numbers") from None
    except (ValueError, UnicodeDecodeError) as error:  # pandas' and Arrow's parse errors are ValueErrors
        raise DataError(f"{path}: cannot be read: {str(error).strip()}") from None
