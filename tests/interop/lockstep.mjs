// What the tests of this folder share: data sets, jobs, and the program under test (LOCKSTEP).
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { h5 } from './read_keras.mjs';

// Numbers in [0, 1) from a seed (mulberry32).
export function random(seed) {
    let a = seed >>> 0;
    return () => {
        a = (a + 0x6d2b79f5) >>> 0;
        let t = Math.imul(a ^ (a >>> 15), 1 | a);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

// arrays: {name: {shape, classes}}: numbers in [-1, 1), or whole ones below classes. One sample is of the shape.
export function writeData(file, arrays, samples, seed = 1) {
    const draw = random(seed);
    const f = new h5.File(file, 'w');
    f.create_group('train');
    for (const [name, { shape, classes }] of Object.entries(arrays)) {
        const n = shape.reduce((a, b) => a * b, samples);
        const data = classes ? new Int32Array(n) : new Float32Array(n);
        for (let i = 0; i < n; i++) {
            data[i] = classes ? Math.floor(draw() * classes) : 2 * draw() - 1;
        }
        f.get('train').create_dataset({ name, data, shape: [samples, ...shape], dtype: classes ? '<i4' : '<f4' });
    }
    f.close();
}

// Runs the program; the text that it printed, and its exit code.
export function run(...args) {
    const done = spawnSync(process.env.LOCKSTEP, args, { encoding: 'utf8', timeout: 120000 });
    return { code: done.status, text: `${done.stdout}${done.stderr}` };
}

export function must(...args) {
    const done = run(...args);
    if (done.code !== 0) {
        throw new Error(`lockstep ${args.join(' ')}: exit code ${done.code}: ${done.text}`);
    }
    return done.text;
}

export function writeJob(file, more) {
    const job = {
        data: { train: 'data.h5:/train' },
        compile: { loss: 'mse', optimizer: { class_name: 'Adam', config: { learning_rate: 0.01 } } },
        fit: { batch_size: 8, epochs: 2, seed: 3 },
        distribute: { threads: 1 },
        ...more,
    };
    fs.writeFileSync(file, JSON.stringify(job));
}

// One line a check, and the closing line that counts them.
let passed = 0;
let failed = 0;
export async function check(name, test) {
    try {
        const note = await test();
        passed++;
        console.log(`ok    ${name}${note ? `: ${note}` : ''}`);
    } catch (error) {
        failed++;
        console.log(`FAIL  ${name}: ${error.message}`);
    }
}
export function finish() {
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed > 0 || passed === 0 ? 1 : 0);
}
