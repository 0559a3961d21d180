//! The programs: thin hooks from the kernel's context to `datapath` and back, and the maps.
//!
//! Verifier and helper rules that everything here obeys: the context is read and written in whole 32-bit words
//! at constant offsets; map values are looked up anew in each program; no loops without a constant bound; at
//! most 512 bytes of stack.
#![no_std]
#![no_main]

mod cgroup;
mod connect;
mod context;
mod event;
mod getpeername;
mod maps;
mod rare;
mod recvmsg;
mod release;
mod sendmsg;
mod socket;
mod tables;
mod usage;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

// GPL-compatible, as several helpers demand.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
