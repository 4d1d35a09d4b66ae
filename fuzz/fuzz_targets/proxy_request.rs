#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| browserfleet_tests::fuzz::run("proxy_request", data));
