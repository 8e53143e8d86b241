"""The paper's studies: object order and ablation."""
