"""SHAP plots for the admin port: drawn by the shap library in a process of its own, one at a time, and cached."""
