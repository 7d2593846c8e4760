// The model families that other programs are to read: {model (a Keras 2 configuration), data, compile}. Layer keys that
// are not written have Keras's defaults.

const layer = (class_name, name, config, ...inbound) => ({
    class_name,
    name,
    config: { name, ...config },
    inbound_nodes: inbound,
});
// One call: of('a') or of(['a', 1, 0], 'b').
const of = (...inputs) => inputs.map((i) => (Array.isArray(i) ? [...i, {}] : [i, 0, 0, {}]));
const input = (name, shape, dtype = 'float32') =>
    layer('InputLayer', name, { batch_input_shape: [null, ...shape], dtype, sparse: false, ragged: false });
const functional = (name, layers, inputs, outputs) => ({
    class_name: 'Functional',
    config: {
        name,
        layers,
        input_layers: inputs.map((n) => [n, 0, 0]),
        output_layers: outputs.map((n) => (Array.isArray(n) ? n : [n, 0, 0])),
    },
});
const sequential = (name, shape, layers, dtype = 'float32') => ({
    class_name: 'Sequential',
    config: {
        name,
        layers: [
            { class_name: 'InputLayer', config: input(`${name}_input`, shape, dtype).config },
            ...layers.map(([class_name, config], i) => ({
                class_name,
                config: { name: `${class_name.toLowerCase()}_${i}`, ...config },
            })),
        ],
    },
});
const relu = { activation: 'relu' };
const identity = { class_name: 'Identity', config: { gain: 1.0 } };
const same = { padding: 'same' };

export const families = {
    mlp: {
        model: sequential('mlp', [12], [
            ['Dense', { units: 16, activation: 'tanh' }],
            ['Dense', { units: 16, activation: 'elu' }],
            ['Dropout', { rate: 0.5 }],
            ['Dense', { units: 8, activation: 'sigmoid', use_bias: false }],
            ['Dense', { units: 5, activation: 'softmax' }],
        ]),
        data: { x: { shape: [12] }, y: { shape: [5] } },
    },
    lenet_normalised: {
        model: sequential('lenet', [12, 12, 2], [
            ['Conv2D', { filters: 6, kernel_size: [5, 5], ...same, use_bias: false }],
            ['BatchNormalization', { axis: [3], momentum: 0.8 }],
            ['Activation', relu],
            ['MaxPooling2D', { pool_size: [2, 2], strides: [2, 2], padding: 'valid' }],
            ['Conv2D', { filters: 8, kernel_size: [3, 3], strides: [2, 2], ...relu }],
            ['AveragePooling2D', { pool_size: [2, 2], strides: [1, 1], padding: 'same' }],
            ['Flatten', {}],
            ['Dense', { units: 4, activation: 'softmax' }],
        ]),
        data: { x: { shape: [12, 12, 2] }, y: { shape: [4] } },
    },
    residual: {
        model: functional(
            'residual',
            [
                input('image', [8, 8, 3]),
                layer('Conv2D', 'stem', { filters: 6, kernel_size: [3, 3], ...same }, of('image')),
                layer('BatchNormalization', 'bn_a', { axis: [3], momentum: 0.9, epsilon: 1e-5 }, of('stem')),
                layer('Activation', 'relu_a', relu, of('bn_a')),
                layer('Conv2D', 'conv_a', { filters: 6, kernel_size: [3, 3], ...same }, of('relu_a')),
                layer('Add', 'join', {}, of('conv_a', 'stem')),
                layer('ReLU', 'relu_b', { max_value: 6 }, of('join')),
                layer('GlobalAveragePooling2D', 'pool', {}, of('relu_b')),
                layer('Dense', 'scores', { units: 3 }, of('pool')),
            ],
            ['image'],
            ['scores'],
        ),
        data: { x: { shape: [8, 8, 3] }, y: { shape: [3] } },
    },
    inception: {
        model: functional(
            'inception',
            [
                input('image', [9, 9, 4]),
                layer('Conv2D', 'one', { filters: 3, kernel_size: [1, 1], ...relu }, of('image')),
                layer('Conv2D', 'three_down', { filters: 2, kernel_size: [1, 1], ...relu }, of('image')),
                layer('Conv2D', 'three', { filters: 4, kernel_size: [3, 3], ...same, ...relu }, of('three_down')),
                layer('Conv2D', 'five', { filters: 2, kernel_size: [5, 5], ...same }, of('three_down')),
                layer('MaxPooling2D', 'pool', { pool_size: [3, 3], strides: [1, 1], ...same }, of('image')),
                layer('Concatenate', 'join', { axis: -1 }, of('one', 'three', 'five', 'pool')),
                layer('GlobalMaxPooling2D', 'most', {}, of('join')),
                layer('Dense', 'scores', { units: 3, activation: 'softmax' }, of('most')),
            ],
            ['image'],
            ['scores'],
        ),
        data: { x: { shape: [9, 9, 4] }, y: { shape: [3] } },
    },
    separable: {
        model: sequential('separable', [10, 10, 3], [
            ['SeparableConv2D', { filters: 6, kernel_size: [3, 3], ...same, depth_multiplier: 2, ...relu }],
            ['DepthwiseConv2D', { kernel_size: [3, 3], strides: [2, 2], ...same, depth_multiplier: 1 }],
            ['LeakyReLU', { alpha: 0.2 }],
            ['GlobalAveragePooling2D', {}],
            ['Dense', { units: 2 }],
        ]),
        data: { x: { shape: [10, 10, 3] }, y: { shape: [2] } },
    },
    conv1d: {
        model: sequential('conv1d', [20, 3], [
            ['Conv1D', { filters: 5, kernel_size: [3], ...same, dilation_rate: [2], ...relu }],
            ['MaxPooling1D', { pool_size: [2], strides: [2], padding: 'valid' }],
            ['Conv1D', { filters: 4, kernel_size: [4], strides: [2], ...same, activation: 'softplus' }],
            ['GlobalMaxPooling1D', {}],
            ['Dense', { units: 2, activation: 'softsign' }],
        ]),
        data: { x: { shape: [20, 3] }, y: { shape: [2] } },
    },
    autoencoder: {
        model: sequential('autoencoder', [8, 8, 2], [
            ['Conv2D', { filters: 6, kernel_size: [3, 3], strides: [2, 2], ...same, ...relu }],
            ['Conv2D', { filters: 3, kernel_size: [3, 3], strides: [2, 2], ...same, ...relu }],
            ['Conv2DTranspose', { filters: 6, kernel_size: [3, 3], strides: [2, 2], ...same, ...relu }],
            ['Conv2DTranspose', { filters: 2, kernel_size: [4, 4], strides: [2, 2], ...same, activation: 'tanh' }],
        ]),
        data: { x: { shape: [8, 8, 2] }, y: { shape: [8, 8, 2] } },
    },
    conv3d: {
        model: sequential('conv3d', [5, 6, 6, 2], [
            ['Conv3D', { filters: 4, kernel_size: [3, 3, 3], ...same, ...relu }],
            ['MaxPooling3D', { pool_size: [1, 2, 2], strides: [1, 2, 2], padding: 'valid' }],
            ['Flatten', {}],
            ['Dense', { units: 3 }],
        ]),
        data: { x: { shape: [5, 6, 6, 2] }, y: { shape: [3] } },
    },
    time_distributed: {
        model: sequential('time_distributed', [5, 6, 6, 1], [
            ['TimeDistributed', {
                name: 'frames',
                layer: { class_name: 'Conv2D', config: { name: 'frame', filters: 3, kernel_size: [3, 3], ...relu } },
            }],
            ['TimeDistributed', { name: 'flat', layer: { class_name: 'Flatten', config: { name: 'flatten' } } }],
            ['TimeDistributed', {
                name: 'each',
                layer: { class_name: 'Dense', config: { name: 'scores', units: 2 } },
            }],
        ]),
        data: { x: { shape: [5, 6, 6, 1] }, y: { shape: [5, 2] } },
    },
    shared: {
        model: functional(
            'shared',
            [
                input('left', [6]),
                input('right', [6]),
                layer('Dense', 'tower', { units: 5, ...relu }, of('left'), of('right')),
                layer('Concatenate', 'both', {}, of(['tower', 1, 0], ['tower', 0, 0])),
                layer('Dense', 'score', { units: 1, activation: 'sigmoid' }, of('both')),
            ],
            ['left', 'right'],
            ['score'],
        ),
        data: { left: { shape: [6] }, right: { shape: [6] }, y: { shape: [1], classes: 2 } },
        compile: { loss: 'binary_crossentropy' },
    },
    nested: {
        model: functional(
            'nested',
            [
                input('x_in', [7]),
                {
                    ...functional(
                        'inner',
                        [
                            input('inner_in', [7]),
                            layer('Dense', 'a', { units: 6, activation: 'tanh' }, of('inner_in')),
                            layer('BatchNormalization', 'bn', { axis: [1], momentum: 0.7 }, of('a')),
                            layer('Dense', 'b', { units: 6, ...relu }, of('bn')),
                            layer('Add', 'sum', {}, of('b', 'a')),
                        ],
                        ['inner_in'],
                        ['sum'],
                    ),
                    name: 'inner',
                    inbound_nodes: [of('x_in')],
                },
                layer('Dense', 'out', { units: 3 }, of(['inner', 1, 0])),
            ],
            ['x_in'],
            ['out'],
        ),
        data: { x: { shape: [7] }, y: { shape: [3] } },
    },
    inputs_and_outputs: {
        model: functional(
            'inputs_and_outputs',
            [
                input('image', [6, 6, 1]),
                input('facts', [4]),
                layer('Conv2D', 'conv', { filters: 3, kernel_size: [3, 3], ...relu }, of('image')),
                layer('Flatten', 'flatten', {}, of('conv')),
                layer('Dense', 'from_facts', { units: 36, activation: 'sigmoid' }, of('facts')),
                layer('Multiply', 'gate', {}, of('narrow', 'from_facts')),
                layer('Dense', 'narrow', { units: 36 }, of('flatten')),
                layer('Maximum', 'most', {}, of('gate', 'narrow')),
                layer('Dense', 'first', { units: 2 }, of('most')),
                layer('Dense', 'second', { units: 3, activation: 'softmax' }, of('gate')),
            ],
            ['image', 'facts'],
            ['first', 'second'],
        ),
        data: {
            image: { shape: [6, 6, 1] },
            facts: { shape: [4] },
            first: { shape: [2] },
            second: { shape: [3] },
        },
        compile: { loss: { first: 'mse', second: 'mean_absolute_error' }, loss_weights: { first: 1, second: 0.5 } },
    },
    rearranged: {
        model: sequential('rearranged', [6, 5, 4], [
            ['ZeroPadding2D', { padding: [[1, 2], [0, 1]] }],
            ['Conv2D', { filters: 6, kernel_size: [2, 2] }],
            ['PReLU', { shared_axes: [1, 2] }],
            ['UpSampling2D', { size: [2, 2], interpolation: 'nearest' }],
            ['Cropping2D', { cropping: [[1, 0], [2, 1]] }],
            ['Permute', { dims: [2, 3, 1] }],
            ['Reshape', { target_shape: [7, 90] }],
            ['LayerNormalization', { axis: [2], epsilon: 1e-3 }],
            ['Flatten', {}],
            ['Dense', { units: 3 }],
            ['RepeatVector', { n: 4 }],
        ]),
        data: { x: { shape: [6, 5, 4] }, y: { shape: [4, 3] } },
    },
    simple_rnn: {
        model: sequential('simple_rnn', [9, 3], [
            ['SimpleRNN', { units: 7, activation: 'relu', recurrent_initializer: identity, return_sequences: true }],
            ['SimpleRNN', { units: 5, activation: 'tanh', go_backwards: true }],
            ['Dense', { units: 2 }],
        ]),
        data: { x: { shape: [9, 3] }, y: { shape: [2] } },
    },
    lstm: {
        model: sequential('lstm', [8, 4], [
            ['LSTM', { units: 6, recurrent_activation: 'sigmoid', return_sequences: true }],
            ['LSTM', { units: 5, activation: 'softsign', recurrent_activation: 'hard_sigmoid', use_bias: false }],
            ['Dense', { units: 3 }],
        ]),
        data: { x: { shape: [8, 4] }, y: { shape: [3] } },
    },
    gru: {
        model: sequential('gru', [8, 4], [
            ['GRU', { units: 6, recurrent_activation: 'sigmoid', reset_after: false, return_sequences: true }],
            ['GRU', { units: 5, recurrent_activation: 'hard_sigmoid', reset_after: false }],
            ['Dense', { units: 3 }],
        ]),
        data: { x: { shape: [8, 4] }, y: { shape: [3] } },
    },
    text_classifier: {
        model: sequential('text_classifier', [12], [
            ['Embedding', { input_dim: 20, output_dim: 6, input_length: 12 }],
            ['Bidirectional', {
                name: 'both_ways',
                merge_mode: 'concat',
                layer: {
                    class_name: 'LSTM',
                    config: { name: 'words', units: 4, recurrent_activation: 'sigmoid', return_sequences: true },
                },
            }],
            ['Bidirectional', {
                name: 'summed',
                merge_mode: 'sum',
                layer: { class_name: 'GRU', config: { name: 'g', units: 3, recurrent_activation: 'sigmoid', reset_after: false } },
            }],
            ['Dense', { units: 1, activation: 'sigmoid' }],
        ]),
        data: { x: { shape: [12], classes: 20 }, y: { shape: [1], classes: 2 } },
        compile: { loss: 'binary_crossentropy' },
    },
    char_rnn: {
        model: sequential('char_rnn', [10], [
            ['Embedding', { input_dim: 11, output_dim: 5 }],
            ['LSTM', { units: 8, recurrent_activation: 'sigmoid', return_sequences: true }],
            ['TimeDistributed', {
                name: 'each',
                layer: { class_name: 'Dense', config: { name: 'scores', units: 11, activation: 'softmax' } },
            }],
        ]),
        data: { x: { shape: [10], classes: 11 }, y: { shape: [10], classes: 11 } },
        compile: { loss: 'sparse_categorical_crossentropy' },
    },
    masked: {
        model: sequential('masked', [7, 1], [
            ['Masking', { mask_value: 0 }],
            ['LSTM', { units: 6, recurrent_activation: 'sigmoid' }],
            ['Dense', { units: 2 }],
        ]),
        data: { x: { shape: [7, 1], classes: 3 }, y: { shape: [2] } },
    },
    encoder_decoder: {
        model: functional(
            'encoder_decoder',
            [
                input('source', [6, 3]),
                input('target', [5, 2]),
                layer('LSTM', 'encoder', { units: 4, recurrent_activation: 'sigmoid', return_state: true }, of('source')),
                layer(
                    'LSTM',
                    'decoder',
                    { units: 4, recurrent_activation: 'sigmoid', return_sequences: true },
                    of('target', ['encoder', 0, 1], ['encoder', 0, 2]),
                ),
                layer('Dense', 'scores', { units: 3, activation: 'softmax' }, of('decoder')),
            ],
            ['source', 'target'],
            ['scores'],
        ),
        data: { source: { shape: [6, 3] }, target: { shape: [5, 2] }, y: { shape: [5, 3] } },
    },
};
