"""Training parts that are split off and not used."""

import ast
import textwrap

from doctor.observe import unsplit


def found(text):
    return list(unsplit.find(ast.parse(textwrap.dedent(text))))


def test_a_loader_over_the_whole_of_which_a_part_was_split_off_is_found():
    assert found("""
        held_out = [clicks[-1] for clicks in history]
        train_history = [clicks[:-1] for clicks in history]
        loader = DataLoader(Clicks(history), batch_size=64)
        print(evaluate(model, train_history, held_out))
    """) == [(4, "history", "train_history")]
    assert found("""
        train_df, test_df = train_test_split(df, test_size=0.2)
        dataset = TableDataset(df)
        test_set = TableDataset(test_df)
    """) == [(3, "df", "train_df")]


def test_a_part_that_feeds_a_data_set_is_silent():
    assert not found("""
        train_df, test_df = train_test_split(df)
        train_loader = DataLoader(TableDataset(train_df))
        full_loader = DataLoader(TableDataset(df))
    """)


def test_tensors_made_from_a_part_and_wholes_without_a_held_out_part_are_silent():
    assert not found("""
        n = len(x)
        train_x, test_x = x[:800], x[800:]
        loader = DataLoader(TensorDataset(train_x, train_y))
    """)
    assert not found("""
        train_x = standardised(x)
        loader = DataLoader(TensorDataset(x))
    """)


def test_a_split_of_the_data_set_itself_is_silent():
    assert not found("""
        dataset = Pairs(files)
        train_set, val_set = random_split(dataset, [0.8, 0.2])
        train_loader = DataLoader(train_set, shuffle=True)
        val_loader = DataLoader(val_set)
    """)


def test_counts_masks_and_modules_are_no_wholes():
    assert not found("""
        import numpy as np
        train_n = int(0.8 * n)
        test_n = n - train_n
        train_mask, test_mask = masks(graph)
        train_data = np.arange(10)
        test_data = np.arange(3)
        dataset = SyntheticDataset(n, np.float32(scale))
        loader = DataLoader([graph])
        train_set, test_set = random_split(dataset, [train_n, test_n])
    """)
