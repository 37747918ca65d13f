//! Has libFuzzer call the target of this name.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| p2pconnect_fuzz_targets::coordination(input));
