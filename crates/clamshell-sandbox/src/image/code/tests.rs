//! Zips made by hand.
