// The type in which buffers hold the numbers that a shader computes with as f32: f16 where F16 is on, else f32.

@if(F16) alias Held = f16;
@if(F16) alias Held4 = vec4<f16>;

@if(!F16) alias Held = f32;
@if(!F16) alias Held4 = vec4<f32>;
