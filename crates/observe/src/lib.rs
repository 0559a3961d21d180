//! Decoding and naming of events, reasons as labels, log set-up.
