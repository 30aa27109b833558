//! The program on the target: it plans, journals, converges, verifies, and undoes.
