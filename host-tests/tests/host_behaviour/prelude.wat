(import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_log_level" (func $log_level (param i32) (result i32)))
(import "env" "proxy_get_status" (func $get_status (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_property" (func $get_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_property" (func $set_property (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_send_local_response"
  (func $send_local_response (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_continue_stream" (func $continue_stream (param i32) (result i32)))
(import "env" "proxy_close_stream" (func $close_stream (param i32) (result i32)))
(import "env" "proxy_get_shared_data" (func $get_shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data" (func $set_shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_register_shared_queue" (func $register_queue (param i32 i32 i32) (result i32)))
(import "env" "proxy_resolve_shared_queue" (func $resolve_queue (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $dequeue (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_value" (func $get_header (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_add_header_map_value" (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_replace_header_map_value"
  (func $replace_header (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_remove_header_map_value" (func $remove_header (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_pairs" (func $get_pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_header_map_pairs" (func $set_pairs (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_header_map_size" (func $get_size (param i32 i32) (result i32)))
(import "env" "proxy_get_buffer_bytes" (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_get_buffer_status" (func $buffer_status (param i32 i32 i32) (result i32)))
(import "env" "proxy_set_buffer_bytes" (func $set_buffer (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_http_call"
  (func $http_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_call"
  (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_stream"
  (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
(import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
(import "env" "proxy_set_tick_period_milliseconds" (func $set_tick (param i32) (result i32)))
(import "env" "proxy_get_current_time_nanoseconds" (func $now (param i32) (result i32)))
(import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
(import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
(import "env" "proxy_get_metric" (func $get_metric (param i32 i32) (result i32)))
(import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
(import "env" "proxy_done" (func $done (result i32)))
(import "env" "proxy_call_foreign_function"
  (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))

;; Bytes 0 to 15 receive pointers, lengths and numbers; 64 to 255 are for text being made; texts of
;; the tests begin at 4096; the allocator begins at 65536 and never frees.
(memory (export "memory") 16)
(global $heap (mut i32) (i32.const 65536))
(func (export "proxy_abi_version_0_2_1"))
(func $malloc (export "malloc") (param $len i32) (result i32)
  (global.get $heap)
  (global.set $heap (i32.add (global.get $heap) (i32.and (i32.add (local.get $len) (i32.const 7)) (i32.const -8)))))

;; Logs a text.
(func $say (param $text i32) (param $len i32)
  (drop (call $log (i32.const 2) (local.get $text) (local.get $len))))

;; Writes the decimal digits of a number so that they end at 255, and gives their beginning.
(func $digits (param $number i64) (result i32)
  (local $at i32)
  (local.set $at (i32.const 255))
  (loop $more
    (local.set $at (i32.sub (local.get $at) (i32.const 1)))
    (i32.store8 (local.get $at)
      (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $number) (i64.const 10)))))
    (local.set $number (i64.div_u (local.get $number) (i64.const 10)))
    (br_if $more (i64.ne (local.get $number) (i64.const 0))))
  (local.get $at))

;; Logs a number.
(func $say_number (param $number i64)
  (local $at i32)
  (local.set $at (call $digits (local.get $number)))
  (call $say (local.get $at) (i32.sub (i32.const 255) (local.get $at))))

;; Logs "status N".
(func $say_status (param $status i32)
  (local $at i32)
  (local.set $at (i32.sub (call $digits (i64.extend_i32_u (local.get $status))) (i32.const 7)))
  (i64.store (local.get $at) (i64.const 0x20737574617473))
  (i32.store8 (i32.add (local.get $at) (i32.const 7))
    (i32.add (i32.const 48) (i32.rem_u (local.get $status) (i32.const 10))))
  (if (i32.ge_u (local.get $status) (i32.const 10))
    (then
      (i32.store8 (i32.add (local.get $at) (i32.const 7))
        (i32.add (i32.const 48) (i32.div_u (local.get $status) (i32.const 10))))
      (i32.store8 (i32.add (local.get $at) (i32.const 8))
        (i32.add (i32.const 48) (i32.rem_u (local.get $status) (i32.const 10))))))
  (call $say (local.get $at) (i32.sub (i32.const 255) (local.get $at))))

;; After a call that gave bytes at 0 (pointer) and 4 (length): logs them, or the status.
(func $bytes (param $status i32)
  (if (local.get $status)
    (then (call $say_status (local.get $status)))
    (else (call $say (i32.load (i32.const 0)) (i32.load (i32.const 4))))))

;; The same with the bytes as a little-endian number of 64 bits.
(func $bytes_as_number (param $status i32)
  (if (local.get $status)
    (then (call $say_status (local.get $status)))
    (else (call $say_number (i64.load (i32.load (i32.const 0)))))))

;; After a call that gave a number of 32 bits at 0: logs it, or the status.
(func $number (param $status i32)
  (if (local.get $status)
    (then (call $say_status (local.get $status)))
    (else (call $say_number (i64.load32_u (i32.const 0))))))

;; After a call that gave a number of 64 bits at 0: logs it, or the status.
(func $long (param $status i32)
  (if (local.get $status)
    (then (call $say_status (local.get $status)))
    (else (call $say_number (i64.load (i32.const 0))))))
