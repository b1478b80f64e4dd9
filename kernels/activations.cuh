// The activations and their derivatives, one number at a time. Formulas and constants are those of
// darkpy/backends/numpy/activations.py; what is not a number stays so, except where the function is flat there.
#pragma once

// In the order of ELEMENTWISE_ACTIVATIONS in darkpy/backends/base_words.py.
enum Activation {
    ELU, GELU, HARD_MISH, HARDTAN, LEAKY, LHTAN, LINEAR, LOGGY, LOGISTIC, MISH, PLSE, RAMP, RELIE, RELU, RELU6, REVLEAKY,
    SELU, STAIR, SWISH, TANH,
};

constexpr float SELU_SCALE = 1.0507f, SELU_ALPHA = 1.6732f;
constexpr float GELU_LINEAR = 0.797885f, GELU_CUBIC = 0.035677f;
// Further out tanh is 1, and cubes of larger numbers might overflow.
constexpr float GELU_SATURATION = 10.0f;
// Above this, softplus(x) is x (Darknet).
constexpr float MISH_THRESHOLD = 20.0f;

__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

__device__ __forceinline__ float held(float x, float low, float high) { return fminf(fmaxf(x, low), high); }

// tanh(log(1 + e)) = ((1 + e)^2 - 1) / ((1 + e)^2 + 1) with e = exp(x).
__device__ __forceinline__ float tanh_softplus(float x) {
    const float e = expf(x > MISH_THRESHOLD ? MISH_THRESHOLD : x), n = e * (e + 2);
    return n / (n + 2);
}

__device__ __forceinline__ float gelu_tanh(float x) { return tanhf(x * (GELU_LINEAR + GELU_CUBIC * x * x)); }

__device__ inline float activate(int kind, float x) {
    switch (kind) {
        case ELU: return x >= 0 ? x : expm1f(x);
        case GELU: return 0.5f * x * (1 + gelu_tanh(held(x, -GELU_SATURATION, GELU_SATURATION)));
        case HARD_MISH: return x <= -2 ? 0 : x > 0 ? x : x * (0.5f * x + 1);
        case HARDTAN: return held(x, -1, 1);
        case LEAKY:
        case REVLEAKY: return x > 0 ? x : 0.1f * x;
        case LHTAN: return x < 0 ? 0.001f * x : x > 1 ? 1 + 0.001f * (x - 1) : x;
        case LOGGY: return tanhf(0.5f * x);
        case LOGISTIC: return sigmoid(x);
        case MISH: return x * tanh_softplus(x);
        case PLSE: return x < -4 ? 0.01f * (x + 4) : x > 4 ? 1 + 0.01f * (x - 4) : 0.125f * x + 0.5f;
        case RAMP: return (x < 0 ? 0 : x) + 0.1f * x;
        case RELIE: return x > 0 ? x : 0.01f * x;
        case RELU: return x < 0 ? 0 : x;
        case RELU6: return held(x, 0, 6);
        case SELU: return SELU_SCALE * (x >= 0 ? x : SELU_ALPHA * expm1f(x));
        case STAIR: {
            const float step = floorf(x);
            return floorf(0.5f * x) + (step - 2 * floorf(0.5f * step)) * (x - step);
        }
        case SWISH: return x * sigmoid(x);
        case TANH: return tanhf(x);
        default: return x;
    }
}

// The derivative at the activation's input v for gelu, hard_mish, mish and swish, at its result v for the others.
__device__ inline float derivative(int kind, float v) {
    switch (kind) {
        case ELU: return v >= 0 ? 1 : v + 1;
        case GELU: {
            const float x = held(v, -GELU_SATURATION, GELU_SATURATION), t = gelu_tanh(x);
            return 0.5f + 0.5f * t + 0.5f * x * (1 - t * t) * (GELU_LINEAR + 3 * GELU_CUBIC * x * x);
        }
        case HARD_MISH: return v <= -2 ? 0 : v > 0 ? 1 : v + 1;
        case HARDTAN: return v > -1 && v < 1;
        case LEAKY:
        case REVLEAKY: return v > 0 ? 1 : 0.1f;
        case LHTAN: return v > 0 && v < 1 ? 1 : 0.001f;
        case LOGGY: return 0.5f - 0.5f * v * v;
        case LOGISTIC: return (1 - v) * v;
        case MISH: {
            const float t = tanh_softplus(v);
            return t + v * (1 - t * t) * sigmoid(v);
        }
        case PLSE: return v >= 0 && v <= 1 ? 0.125f : 0.01f;
        case RAMP: return v > 0 ? 1.1f : 0.1f;
        case RELIE: return v > 0 ? 1 : 0.01f;
        case RELU: return v > 0;
        case RELU6: return v > 0 && v < 6;
        case SELU: return v >= 0 ? SELU_SCALE : v + SELU_SCALE * SELU_ALPHA;
        case STAIR: return floorf(v) != v;
        case SWISH: {
            const float s = sigmoid(v);
            return s + v * s * (1 - s);
        }
        case TANH: return 1 - v * v;
        default: return 1;
    }
}

__device__ __forceinline__ bool needs_input(int kind) {
    return kind == GELU || kind == HARD_MISH || kind == MISH || kind == SWISH;
}
