// An independent reader of Keras HDF5 files: h5wasm for the file, tfjs-layers for the model. It knows nothing of
// Lockstep. The npm packages lie in the folder that LOCKSTEP_NPM names (get_packages).
//
//   node read_keras.mjs MODEL.h5 DATA.h5:/SPLIT OUT.h5
//
// rebuilds the model from model_config, gives it its weights by layer name, predicts all samples of the split and
// writes one array an output, as `lockstep predict` does.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const require = createRequire(path.join(process.env.LOCKSTEP_NPM, 'package.json'));
export const tf = require('@tensorflow/tfjs-core');
tf.env().set('IS_TEST', true); // no advertisement
require('@tensorflow/tfjs-backend-cpu');
const layers = require('@tensorflow/tfjs-layers');
export const h5 = await import(pathToFileURL(path.join(process.env.LOCKSTEP_NPM, 'node_modules/h5wasm/dist/node/hdf5_hl.js')));
await h5.ready;
await tf.setBackend('cpu');

// A string or a list of strings, whole or cut in parts; an empty list may have any type.
export function names(object, name) {
    const found = [];
    const take = (attr) => {
        const value = attr.value;
        if (Array.isArray(value)) {
            found.push(...value);
        } else if (typeof value === 'string') {
            found.push(value);
        }
    };
    if (name in object.attrs) {
        take(object.attrs[name]);
    } else {
        for (let i = 0; `${name}${i}` in object.attrs; i++) {
            take(object.attrs[`${name}${i}`]);
        }
    }
    return found;
}

// {name: {shape, data}} of a layer's group, in the order of weight_names.
function weightsOf(group) {
    return names(group, 'weight_names').map((name) => {
        const set = group.get(name);
        return { name, shape: set.shape, data: Float32Array.from(set.value) };
    });
}

// Predictions need neither what is drawn, which would be overwritten, nor penalties; and tfjs-layers cannot draw the
// orthogonal matrices of recurrent layers in its build for node, and has another name for L2.
function leaveOut(config) {
    if (config === null || typeof config !== 'object') {
        return;
    }
    for (const key of Object.keys(config)) {
        if (key.endsWith('_initializer')) {
            config[key] = { class_name: 'Zeros', config: {} };
        } else if (key.endsWith('_regularizer')) {
            config[key] = null;
        }
    }
    if (['SimpleRNN', 'LSTM', 'GRU'].includes(config.class_name)) {
        config.config.recurrent_initializer = { class_name: 'Zeros', config: {} };
    }
    Object.values(config).forEach(leaveOut);
}

// The model of a Keras configuration, its weights zero where others would be drawn.
export async function buildModel(config) {
    leaveOut(config);
    return layers.loadLayersModel({ load: async () => ({ modelTopology: config }) });
}

export async function readModel(file) {
    const f = new h5.File(file, 'r');
    const model = await buildModel(JSON.parse(f.attrs.model_config.value));
    const root = f.get('model_weights');
    for (const name of names(root, 'layer_names')) {
        const weights = weightsOf(root.get(name));
        if (weights.length === 0) {
            continue;
        }
        model.getLayer(name).setWeights(weights.map((w) => tf.tensor(w.data, w.shape)));
    }
    const withWeights = model.layers.filter((l) => l.weights.length > 0).map((l) => l.name);
    const inFile = names(root, 'layer_names').filter((name) => weightsOf(root.get(name)).length > 0);
    if (JSON.stringify(withWeights) !== JSON.stringify(inFile)) {
        throw new Error(`${file}: layers with weights are ${inFile}, the model has ${withWeights}`);
    }
    f.close();
    return model;
}

// Every sample of a split through the model: [{shape, data}] in the order of the model's outputs.
export function predict(model, file, split) {
    const f = new h5.File(file, 'r');
    const inputs = model.inputs.map((t, i) => {
        const name = model.inputNames[i];
        const set = f.get(`${split}/${name}`) ?? f.get(`${split}/x`);
        // the axes as the model has them: (N, 8, 8) fits (8, 8, 1)
        return tf.tensor(Float32Array.from(set.value), [set.shape[0], ...t.shape.slice(1).map((d, k) => d ?? set.shape[k + 1])]);
    });
    f.close();
    const out = model.predict(inputs.length === 1 ? inputs[0] : inputs, { batchSize: 64 });
    return (Array.isArray(out) ? out : [out]).map((t) => ({ shape: t.shape, data: t.dataSync() }));
}

// The arrays that `lockstep predict` wrote, in the order of names; with one output, whatever its name.
export function readOutputs(file, outputNames) {
    const f = new h5.File(file, 'r');
    const keys = f.keys();
    const found = outputNames.map((name) => {
        const set = f.get(name) ?? (keys.length === 1 ? f.get(keys[0]) : null);
        if (set === null) {
            throw new Error(`${file}: holds ${keys}, not ${name}`);
        }
        return { shape: set.shape, data: set.value };
    });
    f.close();
    return found;
}

// The largest difference, relative to the largest value; infinite where the shapes differ or something is no number.
export function difference(a, b) {
    if (JSON.stringify(a.shape) !== JSON.stringify(b.shape)) {
        return Infinity;
    }
    let worst = 0;
    let largest = 0;
    for (let i = 0; i < a.data.length; i++) {
        const d = Math.abs(a.data[i] - b.data[i]);
        worst = d <= worst ? worst : Number.isNaN(d) ? Infinity : d;
        largest = Math.max(largest, Math.abs(b.data[i]));
    }
    return largest > 0 ? worst / largest : worst;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const [file, data, out] = process.argv.slice(2);
    const [source, split] = data.split(/:(?=\/)/);
    const model = await readModel(file);
    const f = new h5.File(out, 'w');
    predict(model, source, split).forEach((p, i) => {
        f.create_dataset({ name: model.outputNames[i], data: p.data, shape: p.shape, dtype: '<f4' });
    });
    f.close();
}
