//! Every per-connection decision, generic over a small trait of look-ups.
